"""Connects the database to the Storage SCP: pending C-MOVEs, image transport, quarantine.

Used by the receiver process and by the workers that retrieve by C-MOVE.
"""
