from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "adit.notifications"

    def ready(self) -> None:
        # Registers the templates of messages, with Django's translation.
        from adit import messages  # noqa: F401
