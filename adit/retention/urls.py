"""URLs of retention."""

from django.urls import path

from adit.retention import views

urlpatterns = [
    path("retention/", views.retention, name="retention"),
    path("retention/preview/", views.retention_preview, name="retention_preview"),
    path("retention/ledgers/", views.retention_ledgers, name="retention_ledgers"),
]
