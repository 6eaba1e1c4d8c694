"""URLs of home, help and the audit trail."""

from django.urls import path

from adit.pages import audit_views, sample_sheets, views

urlpatterns = [
    path("", views.home, name="home"),
    path("home/live", views.home_live, name="home_live"),
    path("first-steps/key/", views.confirm_key_backup, name="confirm_key_backup"),
    path("samples/<str:name>", sample_sheets.download_sample, name="sample"),
    path("help/", views.help_index, name="help"),
    path("help/<slug:slug>", views.help_topic, name="help_topic"),
    path("trail/", audit_views.trail_page, name="trail"),
    path("trail/verify/", audit_views.trail_verify, name="trail_verify"),
    path("trail/export/", audit_views.trail_export, name="trail_export"),
    path("history/<slug:kind>/<int:pk>/", audit_views.history_page, name="history"),
]
