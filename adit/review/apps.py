from django.apps import AppConfig


class ReviewConfig(AppConfig):
    name = "adit.review"

    def ready(self) -> None:
        from adit.review.actions import register_actions

        register_actions()
