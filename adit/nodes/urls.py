"""Addresses of the pages of nodes."""

from django.urls import path

from adit.nodes import views

urlpatterns = [
    path("", views.node_list, name="nodes"),
    path("new/", views.node_kinds, name="node_new"),
    path("new/<slug:kind>/", views.node_new, name="node_new_kind"),
    path("<int:pk>/", views.node_page, name="node"),
    path("<int:pk>/edit/", views.node_edit, name="node_edit"),
    path("<int:pk>/access/", views.node_access, name="node_access"),
    path("<int:pk>/pause/", views.node_pause, name="node_pause"),
    path("<int:pk>/delete/", views.node_delete, name="node_delete"),
    path("<int:pk>/test/", views.node_test, name="node_test"),
    path("<int:pk>/do/<slug:verb>/", views.node_do, name="node_do"),
]
