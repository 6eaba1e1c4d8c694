"""Withheld: what was held back, looked at again, and decided on by a person."""
