"""Management commands of users, groups and configuration."""
