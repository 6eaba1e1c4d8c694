"""Template filters of the job and order pages."""
