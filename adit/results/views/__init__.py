"""Pages and downloads of results, used by the URLs of jobs."""
