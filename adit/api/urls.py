"""URLs of the REST API, below /api/v1/. No trailing slashes."""

from django.urls import path

from adit.api.views import account, consent, docs, jobs, nodes, orders, pseudonyms, webhooks

urlpatterns = [
    path("schema", docs.schema, name="api_schema"),
    path("docs", docs.docs, name="rest_docs"),
    path("me", account.MeView.as_view(), name="api_me"),
    path("tokens", account.TokensView.as_view(), name="api_tokens"),
    path("tokens/<int:pk>", account.TokenView.as_view(), name="api_token"),
    path("webhooks", webhooks.WebhooksView.as_view(), name="api_webhooks"),
    path("webhooks/<int:pk>", webhooks.WebhookView.as_view(), name="api_webhook"),
    path("webhooks/<int:pk>/test", webhooks.WebhookTestView.as_view(), name="api_webhook_test"),
    path(
        "webhooks/<int:pk>/enable", webhooks.WebhookEnableView.as_view(), name="api_webhook_enable"
    ),
    path(
        "webhooks/<int:pk>/deliveries",
        webhooks.WebhookDeliveriesView.as_view(),
        name="api_webhook_deliveries",
    ),
    path("nodes", nodes.NodesView.as_view(), name="api_nodes"),
    path("nodes/<int:pk>", nodes.NodeView.as_view(), name="api_node"),
    path("nodes/<int:pk>/test", nodes.NodeTestView.as_view(), name="api_node_test"),
    path("projects", nodes.ProjectsView.as_view(), name="api_projects"),
    path("projects/<str:protocol_id>", nodes.ProjectView.as_view(), name="api_project"),
    path(
        "projects/<str:protocol_id>/pseudonyms",
        pseudonyms.PseudonymsView.as_view(),
        name="api_pseudonyms",
    ),
    path(
        "projects/<str:protocol_id>/pseudonyms/lookup",
        pseudonyms.PseudonymLookupView.as_view(),
        name="api_pseudonym_lookup",
    ),
    path(
        "projects/<str:protocol_id>/pseudonyms/reidentify",
        pseudonyms.ReidentificationView.as_view(),
        name="api_reidentify",
    ),
    path(
        "projects/<str:protocol_id>/consent",
        consent.ConsentListView.as_view(),
        name="api_consent",
    ),
    path(
        "projects/<str:protocol_id>/consent/lookup",
        consent.ConsentLookupView.as_view(),
        name="api_consent_lookup",
    ),
    path(
        "projects/<str:protocol_id>/consent/patients",
        consent.ConsentPatientsView.as_view(),
        name="api_consent_add",
    ),
    path(
        "projects/<str:protocol_id>/consent/withdraw",
        consent.ConsentWithdrawalView.as_view(),
        name="api_consent_withdraw",
    ),
    path(
        "projects/<str:protocol_id>/consent/export",
        consent.ConsentExportView.as_view(),
        name="api_consent_export",
    ),
    path("profiles", nodes.ProfilesView.as_view(), name="api_profiles"),
    path("profiles/<int:pk>", nodes.ProfileView.as_view(), name="api_profile"),
    path("searches", nodes.SearchesView.as_view(), name="api_searches"),
    path("jobs", jobs.JobsView.as_view(), name="api_jobs"),
    path("jobs/preview", orders.PreviewView.as_view(), name="api_preview"),
    path("jobs/<int:pk>", jobs.JobView.as_view(), name="api_job"),
    path("jobs/<int:pk>/tasks", jobs.TasksView.as_view(), name="api_tasks"),
    path("jobs/<int:pk>/tasks/<int:position>", jobs.TaskView.as_view(), name="api_task"),
    path(
        "jobs/<int:pk>/tasks/<int:position>/series",
        jobs.TaskSeriesView.as_view(),
        name="api_task_series",
    ),
    path(
        "jobs/<int:pk>/tasks/<int:position>/actions/<str:name>",
        jobs.TaskActionView.as_view(),
        name="api_task_action",
    ),
    path("jobs/<int:pk>/series", jobs.SeriesView.as_view(), name="api_series"),
    path("jobs/<int:pk>/rows", jobs.RowsView.as_view(), name="api_rows"),
    path("jobs/<int:pk>/report.json", jobs.ReportView.as_view(), name="api_report"),
    path("jobs/<int:pk>/report.pdf", jobs.ReportPdfView.as_view(), name="api_report_pdf"),
    path("jobs/<int:pk>/result.<str:form>", jobs.ResultView.as_view(), name="api_result"),
    path("jobs/<int:pk>/archive", jobs.ArchiveView.as_view(), name="api_archive"),
    path("jobs/<int:pk>/actions/<str:name>", jobs.JobActionView.as_view(), name="api_job_action"),
]
