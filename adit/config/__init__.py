"""Settings, URLs, logging, caches, Celery and the WSGI entry point of the project.

Used by every process; the only package that reads the environment.
"""

from adit.config.celery import app as celery_app

__all__ = ["celery_app"]
