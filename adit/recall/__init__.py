"""Recall: delete what was delivered of a patient or by a job, and prove it."""
