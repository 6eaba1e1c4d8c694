from django.apps import AppConfig
from django.conf import settings

from adit_engine.dicom_file import temp_files


class NodesConfig(AppConfig):
    name = "adit.nodes"

    def ready(self) -> None:
        # Next to the spool, because /tmp may be in memory.
        temp_files.set_folder(settings.SPOOL_DIR / "_large")
