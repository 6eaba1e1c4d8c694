"""Pages and services to manage users and groups, and one-time links. Used by pages and the CLI."""
