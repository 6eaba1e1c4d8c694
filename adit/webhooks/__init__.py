"""Webhooks: signed HTTP requests to programs when a job has ended or waits."""
