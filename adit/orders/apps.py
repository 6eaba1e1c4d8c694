from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "adit.orders"

    def ready(self) -> None:
        from adit.orders.actions import register_actions

        register_actions()
