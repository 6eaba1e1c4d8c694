from django.apps import AppConfig


class ApiTokensConfig(AppConfig):
    name = "adit.api_tokens"
