"""What the test of a node finds out about it, and which settings it proposes.

Used by the `check`, `try_fetching` and `try_writing` methods of the nodes.
"""
