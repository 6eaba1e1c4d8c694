"""Patients whose images must not be transferred: the list, its pages, and the check of a patient."""
