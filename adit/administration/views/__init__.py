"""Views of users, groups and one-time links, routed by `adit.administration.urls`."""
