"""WSGI entry point of the process `adit dicomweb`: the DICOMweb API and nothing else."""

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

warnings.simplefilter("ignore")  # warnings of libraries may quote values of patients
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402

from adit.config.garbage_collection import reduce_collections  # noqa: E402
from adit.request_body import cut_stalled_bodies  # noqa: E402

_django = get_wsgi_application()

from adit.dicomweb import viewing_cache  # noqa: E402 - its models need the application
from adit.monitoring import process_signs  # noqa: E402
from adit.monitoring.models import ProcessRole  # noqa: E402

process_signs.start_signs(ProcessRole.DICOMWEB)
viewing_cache.start_sweeping()
_PATHS = ("/api/dicom-web/", "/healthz")


@cut_stalled_bodies
def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"].startswith(_PATHS):
        return _django(environ, start_response)
    start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []


reduce_collections()
