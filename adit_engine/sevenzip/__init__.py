"""7-Zip: encrypted archives of files that are stored, not compressed; written and read as streams.

The format is described in 7zFormat.txt of 7-Zip's sources. Each file is a folder of its own in the
sense of that text: Copy, then AES-256 in CBC mode under a fresh initialization vector, so that any
file can be taken out alone. The list of names is encrypted likewise.
"""
