"""Nodes (PACS, DICOMweb services, folders): models, access, the gateway that opens them, limits.

Used by orders, worker, API and pages. Only this package opens engine nodes.
"""
