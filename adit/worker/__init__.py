"""The worker: Celery tasks that claim and execute tasks. Nothing but Celery imports it."""
