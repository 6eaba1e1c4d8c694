"""Template tags used by the templates of all apps."""
