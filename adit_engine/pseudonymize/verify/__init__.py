"""Second check of the final bytes. Shares no code with the transformation. Used by transfer."""
