"""Orders, from a request to jobs and tasks. Used by the pages, the REST API and the worker."""
