from django.apps import AppConfig


class ResultsConfig(AppConfig):
    name = "adit.results"
