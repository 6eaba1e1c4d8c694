from django.apps import AppConfig
from django.conf import settings

from adit_engine import large


class NodesConfig(AppConfig):
    name = "adit.nodes"

    def ready(self) -> None:
        # Beside what is received: /tmp may be memory.
        large.keep_in(settings.SPOOL_DIR / "_large")
