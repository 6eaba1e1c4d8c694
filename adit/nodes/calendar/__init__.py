"""Allowed hours and special days of a node. Used by slots, forms and pages of nodes."""
