"""WSGI entry point, used by the web server."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from adit.config.request_body import cut_stalled_bodies

GC_THRESHOLD = 20_000
"""New objects between two garbage collections.

A long list creates some hundred thousand objects, none of them garbage, and collecting took half of
the time of its pages.
"""

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
application = cut_stalled_bodies(get_wsgi_application())

from adit.monitoring import process_signs  # noqa: E402 - its models need the application
from adit.monitoring.models import ProcessRole  # noqa: E402

process_signs.start_signs(ProcessRole.WEB)
gc.freeze()
gc.set_threshold(GC_THRESHOLD, 10, 10)
