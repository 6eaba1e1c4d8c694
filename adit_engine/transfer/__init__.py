"""The path of every image: one study, series by series, from source to destination.

Used by the job kinds and the command line.
"""
