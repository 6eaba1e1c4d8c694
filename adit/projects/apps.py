from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "adit.projects"

    def ready(self) -> None:
        # Registers the templates of messages, with Django's translation.
        from adit import messages  # noqa: F401
