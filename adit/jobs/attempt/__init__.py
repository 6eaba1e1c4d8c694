"""Attempt: one try at a task: whom it reached, what it noted of each image, how it ended."""
