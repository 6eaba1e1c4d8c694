from django.apps import AppConfig


class BlocklistConfig(AppConfig):
    name = "adit.blocklist"

    def ready(self) -> None:
        from adit.blocklist import node_domains, profile_previews

        node_domains.connect()
        profile_previews.connect()
