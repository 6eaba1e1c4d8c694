"""WSGI entry point, used by the web server."""

import os

from django.core.wsgi import get_wsgi_application

from adit.config.garbage_collection import reduce_collections
from adit.request_body import cut_stalled_bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
application = cut_stalled_bodies(get_wsgi_application())

from adit.dicomweb import viewing_cache  # noqa: E402 - needs the application
from adit.monitoring import process_signs  # noqa: E402 - its models need the application
from adit.monitoring.models import ProcessRole  # noqa: E402

process_signs.start_signs(ProcessRole.WEB)
viewing_cache.start_sweeping()
reduce_collections()
