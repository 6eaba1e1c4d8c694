"""The Storage SCP: receives the images of C-MOVE requests and holds them for the retrieval.

Used by the receiver process, by the command line and by DIMSE nodes.
"""
