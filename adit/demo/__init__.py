"""The demo: a small PACS with made-up sample patients, and the first jobs.

Used by the command `adit demo`. The tests use the PACS and the patients as well.
"""
