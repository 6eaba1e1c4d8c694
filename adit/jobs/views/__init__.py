"""Pages of jobs: ordering one by hand, the list, one job, one task."""
