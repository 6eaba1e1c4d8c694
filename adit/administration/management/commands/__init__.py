"""The management command `configuration`, for administrators."""
