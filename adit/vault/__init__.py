"""Vault: the only place that encrypts: master key, boxes, sealed columns, keyed hashes."""
