"""Addresses of home, help and the sign of life."""

from django.urls import path

from adit.pages import views

urlpatterns = [
    path("", views.home, name="home"),
    path("home/live", views.home_live, name="home_live"),
    path("help/", views.manual, name="help"),
    path("help/<slug:slug>", views.manual_topic, name="help_topic"),
    path("healthz", views.healthz, name="healthz"),
]
