from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "adit.webhooks"
