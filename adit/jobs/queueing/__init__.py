"""Queueing: what adit/jobs/queue.py stands on: who is next, what keeps a task waiting, the bell."""
