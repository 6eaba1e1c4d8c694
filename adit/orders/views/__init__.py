"""Views of orders: selective transfer, batch query and batch transfer."""
