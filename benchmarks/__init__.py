"""Benchmarks: the engine beside the tools that hospitals use today, in one run, as ratios."""
