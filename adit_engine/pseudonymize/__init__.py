"""Pseudonymize: what may leave the hospital, and how it is changed before it does."""
