"""De-identification (PS3.15 Annex E): decides what may leave and rewrites it. Used by transfer."""
