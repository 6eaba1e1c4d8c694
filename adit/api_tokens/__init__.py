"""API tokens: programs act with the permissions of a user. Used by pages, the CLI and the API."""
