"""Pages of research projects and of profiles."""
