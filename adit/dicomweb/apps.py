from django.apps import AppConfig


class DicomwebConfig(AppConfig):
    name = "adit.dicomweb"

    def ready(self) -> None:
        from adit.dicomweb.given_out import find_retrievals
        from adit.recall.api_retrievals import register_finder

        register_finder(find_retrievals)
