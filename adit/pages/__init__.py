"""Home, help, error pages and the pages of the audit trail. The top layer of the site's pages."""
