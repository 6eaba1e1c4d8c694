"""Rows: the rows of a sheet, and what answers each of them."""
