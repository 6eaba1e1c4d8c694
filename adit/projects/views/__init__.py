"""Pages of research projects and profiles, used by the URLs of this app."""
