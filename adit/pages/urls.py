"""Addresses of home, help and the audit trail."""

from django.urls import path

from adit.pages import samples, trail_views, views

urlpatterns = [
    path("", views.home, name="home"),
    path("home/live", views.home_live, name="home_live"),
    path("samples/<str:name>", samples.sample, name="sample"),
    path("help/", views.manual, name="help"),
    path("help/<slug:slug>", views.manual_topic, name="help_topic"),
    path("trail/", trail_views.trail_page, name="trail"),
    path("trail/verify/", trail_views.trail_verify, name="trail_verify"),
    path("trail/export/", trail_views.trail_export, name="trail_export"),
]
