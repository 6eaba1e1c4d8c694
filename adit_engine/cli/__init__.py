"""The command adit-engine: echo, check, sheet, find, fetch, send and transfer.

Started by `adit_engine.__main__`; used by administrators and in scripts, without the project.
"""
