"""Addresses of the pages of nodes."""

from django.urls import path

from adit.nodes import views

urlpatterns = [
    path("", views.node_list, name="nodes"),
]
