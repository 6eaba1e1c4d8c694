from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "adit.monitoring"
