"""Views of the job list, of one job and of one task."""
