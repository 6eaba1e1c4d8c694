"""The DICOM upper layer (PS3.8) and the DIMSE messages over it (PS3.7), without threads.

Used by the DIMSE node, which requests associations, and by our Storage SCP, which accepts them.
"""
