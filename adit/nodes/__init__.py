"""Nodes (PACS, DICOMweb services, folders): models, access, the gateway that opens them, limits.

Used by projects, orders, jobs and the worker. Only this package opens engine nodes.
"""
