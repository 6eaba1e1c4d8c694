"""The path of every image: one study, series by series, from source to destination.

Used by the worker, by the command line and by everything that counts studies at a node.
"""
