"""Read, check and write .xlsx and CSV sheets of batch queries and batch transfers; no database.

Used by consent lists, jobs, orders and results.
"""
