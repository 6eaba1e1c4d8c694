"""The engine: finds, fetches, changes, proves and delivers DICOM objects; knows no database."""

__version__ = "0.1.0"
