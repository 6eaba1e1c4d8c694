"""Limits on the use of a node: slots, circuit breaker, daily budgets. Used by gateway and queue."""
