"""Provenance: by which rules images were changed and under which UIDs they went out; the report."""
