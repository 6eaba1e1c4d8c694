from django.apps import AppConfig
from django.conf import settings

from adit_engine.dicom_file import temp_files
from adit_engine.nodes import folder_index


class NodesConfig(AppConfig):
    name = "adit.nodes"

    def ready(self) -> None:
        # Next to the spool, because /tmp may be in memory.
        temp_files.set_folder(settings.SPOOL_DIR / "_large")
        from adit.nodes.index_cipher import VaultIndexCipher

        folder_index.keep_in(settings.FOLDER_INDEX_DIR, VaultIndexCipher())
