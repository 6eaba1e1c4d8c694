"""Frozen values: references, queries, records, instances, outcomes. Used by all packages."""
