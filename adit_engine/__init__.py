"""The DICOM engine: finds, fetches, changes, verifies and delivers objects.

Knows no Django, settings or database. Used by the project `adit` and as `adit-engine`.
"""

__version__ = "0.1.0"
