from django.apps import AppConfig


class ResultsConfig(AppConfig):
    name = "adit.results"

    def ready(self) -> None:
        from adit.results.actions import register_actions

        register_actions()
