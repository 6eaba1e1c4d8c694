"""The DICOMweb node: QIDO-RS, WADO-RS and STOW-RS over one HTTP client (PS3.18).

Used through `adit_engine.nodes.open_node`.
"""
