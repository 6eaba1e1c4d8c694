"""The consent list of a research project: only patients on it may be transferred."""
