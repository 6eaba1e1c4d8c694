"""URLs for monitoring systems, and of the page System status."""

from django.urls import path

from adit.monitoring import sheet_views, status_views, views

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.prometheus, name="metrics"),
    path("nodes/<int:pk>/month/", sheet_views.month_page, name="node_month"),
    path("nodes/<int:pk>/month.xlsx", sheet_views.month_xlsx, name="node_month_xlsx"),
    path("nodes/<int:pk>/month.pdf", sheet_views.month_pdf, name="node_month_pdf"),
    path("system/", status_views.status_page, name="system_status"),
    path("system/checks/", status_views.checks_page, name="system_checks"),
    path("system/test-mail/", status_views.test_mail, name="system_test_mail"),
]
