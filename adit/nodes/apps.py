from django.apps import AppConfig


class NodesConfig(AppConfig):
    name = "adit.nodes"
