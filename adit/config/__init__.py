"""Config: settings, addresses, and the ways in for web server and workers."""

from adit.config.celery import app as celery_app

__all__ = ["celery_app"]
