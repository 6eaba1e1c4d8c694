"""Words that the templates of jobs use."""
