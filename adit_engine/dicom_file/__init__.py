"""DICOM files: Part 10, header index, folder layout, atomic writing. Used by nodes."""
