"""All encryption of the project: master key, ciphers, encrypted model fields, keyed hashes.

Used by every app that stores secrets or identifying values.
"""
