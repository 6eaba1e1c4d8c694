"""Orders: from what a person requests to jobs and tasks."""
