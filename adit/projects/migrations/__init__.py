"""Migrations of research projects, patients and profiles."""
