"""URLs for monitoring systems, and of the page System status."""

from django.urls import path

from adit.monitoring import status_views, views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.prometheus, name="metrics"),
    path("system/", status_views.status_page, name="system_status"),
    path("system/checks/", status_views.checks_page, name="system_checks"),
    path("system/test-mail/", status_views.test_mail, name="system_test_mail"),
]
