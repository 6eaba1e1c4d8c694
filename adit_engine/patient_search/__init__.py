"""Answer rows of a sheet completely, from archives that cap, ignore or refuse query keys.

Used by batch queries.
"""
