"""Test servers: a PACS and a network with faults, and an auditor of the ledgers."""
