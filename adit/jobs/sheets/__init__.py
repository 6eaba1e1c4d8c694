"""Sheets: the rooms behind adit/jobs/sheet.py, which is their door."""
