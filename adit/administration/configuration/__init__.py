"""Export and import of nodes, calendars, groups, profiles and projects as one JSON file."""
