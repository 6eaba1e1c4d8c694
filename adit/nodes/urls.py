"""URLs of the pages of nodes."""

from django.urls import path

from adit.nodes.views import diagnostics, holidays, nodes, quarantine, usage

urlpatterns = [
    path("", nodes.node_list, name="nodes"),
    path("new/", nodes.node_kinds, name="node_new"),
    path("new/<slug:kind>/", nodes.node_new, name="node_new_kind"),
    path("<int:pk>/", nodes.node_page, name="node"),
    path("<int:pk>/edit/", nodes.node_edit, name="node_edit"),
    path("<int:pk>/holidays/", holidays.node_holidays, name="node_holidays"),
    path("<int:pk>/access/", nodes.node_access, name="node_access"),
    path("<int:pk>/pause/", nodes.node_pause, name="node_pause"),
    path("<int:pk>/stop/", nodes.node_stop, name="node_stop"),
    path("stop/", nodes.stop_all, name="stop_all"),
    path("<int:pk>/connections/<int:slot>/end/", usage.node_end, name="node_end"),
    path("<int:pk>/use.csv", usage.node_usage_file, {"form": "csv"}, name="node_usage_csv"),
    path("<int:pk>/use.xlsx", usage.node_usage_file, {"form": "xlsx"}, name="node_usage_xlsx"),
    path("<int:pk>/delete/", nodes.node_delete, name="node_delete"),
    path("<int:pk>/test/", diagnostics.node_test, name="node_test"),
    path("<int:pk>/test/fetch/", diagnostics.node_fetch, name="node_fetch"),
    path("<int:pk>/test/write/", diagnostics.node_write, name="node_write"),
    path("<int:pk>/test/adopt/", diagnostics.node_adopt, name="node_adopt"),
    path("<int:pk>/sheet/", nodes.node_sheet, name="node_sheet"),
    path("<int:pk>/sheet.txt", nodes.node_sheet_text, name="node_sheet_text"),
    path("budgets/", usage.budget_list, name="budgets"),
    path("quarantine/", quarantine.quarantine, name="quarantine"),
    path("quarantine/delete/", quarantine.quarantine_delete, name="quarantine_delete"),
    path("<int:pk>/do/<slug:verb>/", nodes.node_action, name="node_action"),
]
