"""The DIMSE node: C-ECHO, C-FIND, C-GET, C-MOVE, C-STORE and Storage Commitment.

Used through `adit_engine.nodes.open_node`.
"""
