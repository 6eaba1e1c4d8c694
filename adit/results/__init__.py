"""What jobs found and delivered: query results, reports, result sheets, archives and the UID map.

Used by orders, the worker and the pages of jobs.
"""
