"""The management command `project`, for administrators."""
