"""Research projects with their keys, pseudonyms and de-identification profiles.

Used by jobs, orders, the worker, results and review.
"""
