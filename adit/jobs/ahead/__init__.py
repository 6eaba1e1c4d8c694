"""Ahead: when an order will run, and about when it will have ended."""
