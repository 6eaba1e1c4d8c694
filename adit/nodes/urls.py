"""Addresses of the pages of nodes."""

from django.urls import path

from adit.nodes import budget_views, check_views, quarantine_views, sheet_views, use_views, views

urlpatterns = [
    path("", views.node_list, name="nodes"),
    path("new/", views.node_kinds, name="node_new"),
    path("new/<slug:kind>/", views.node_new, name="node_new_kind"),
    path("<int:pk>/", views.node_page, name="node"),
    path("<int:pk>/edit/", views.node_edit, name="node_edit"),
    path("<int:pk>/access/", views.node_access, name="node_access"),
    path("<int:pk>/pause/", views.node_pause, name="node_pause"),
    path("<int:pk>/stop/", views.node_stop, name="node_stop"),
    path("stop/", views.stop_all, name="stop_all"),
    path("<int:pk>/connections/<int:slot>/end/", use_views.node_end, name="node_end"),
    path("<int:pk>/use.csv", use_views.node_use_csv, name="node_use_csv"),
    path("<int:pk>/use.xlsx", use_views.node_use_xlsx, name="node_use_xlsx"),
    path("<int:pk>/delete/", views.node_delete, name="node_delete"),
    path("<int:pk>/test/", check_views.node_test, name="node_test"),
    path("<int:pk>/test/fetch/", check_views.node_fetch, name="node_fetch"),
    path("<int:pk>/test/write/", check_views.node_write, name="node_write"),
    path("<int:pk>/test/adopt/", check_views.node_adopt, name="node_adopt"),
    path("<int:pk>/sheet/", sheet_views.node_sheet, name="node_sheet"),
    path("<int:pk>/sheet.txt", sheet_views.node_sheet_text, name="node_sheet_text"),
    path("budgets/", budget_views.budget_list, name="budgets"),
    path("quarantine/", quarantine_views.quarantine, name="quarantine"),
    path("quarantine/delete/", quarantine_views.quarantine_delete, name="quarantine_delete"),
    path("<int:pk>/do/<slug:verb>/", views.node_do, name="node_do"),
]
