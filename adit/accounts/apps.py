from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "adit.accounts"

    def ready(self) -> None:
        # Receivers attach when their module is read, which needs the models.
        from adit.accounts import signals  # noqa: F401
