"""Results: what was found and delivered: reports, result sheets, archives."""
