from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "adit.accounts"

    def ready(self) -> None:
        # Importing the module connects the receivers. It needs the models.
        from adit.accounts import signals  # noqa: F401
