"""Views of the pages of nodes, routed by `adit.nodes.urls`."""
