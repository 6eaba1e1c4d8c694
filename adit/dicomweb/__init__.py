"""The DICOMweb API: QIDO-RS, WADO-RS and STOW-RS for every node, whatever it speaks itself."""
