from django.apps import AppConfig


class ProfilesConfig(AppConfig):
    name = "adit.profiles"
