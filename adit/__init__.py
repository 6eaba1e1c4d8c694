"""The Django project: where people and programs order transfers, and where they are carried out."""
