"""Compare the engine with the tools that hospitals use today, in one run, as ratios.

Run by `make bench`.
"""
