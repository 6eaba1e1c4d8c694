"""The engine: finds, fetches, changes, proves and delivers DICOM objects; knows no web site and no database."""

__version__ = "0.1.0"
