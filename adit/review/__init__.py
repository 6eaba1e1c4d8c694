"""Withheld images: a person inspects them and decides about them.

Used by the worker, which records them, and by the pages of jobs.
"""
