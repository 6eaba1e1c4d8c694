"""The root URL configuration of the project."""

from django.urls import include, path

from adit.accounts.rate_limit_page import too_many_requests

urlpatterns = [
    path("accounts/", include("adit.accounts.urls")),
    path("", include("adit.monitoring.urls")),
    path("", include("adit.pages.urls")),
    path("jobs/", include("adit.jobs.urls")),
    path("nodes/", include("adit.nodes.urls")),
    path("", include("adit.projects.urls")),
    path("", include("adit.blocklist.urls")),
    path("", include("adit.consent.urls")),
    path("", include("adit.recall.urls")),
    path("", include("adit.api_tokens.urls")),
    path("", include("adit.webhooks.urls")),
    path("api/v1/", include("adit.api.urls")),
    path("api/dicom-web/", include("adit.dicomweb.urls")),
    path("", include("adit.notifications.urls")),
    path("", include("adit.administration.urls")),
    path("", include("adit.retention.urls")),
]

handler403 = "adit.pages.views.permission_denied"
handler500 = "adit.pages.views.server_error"
handler429 = too_many_requests
"""Read by allauth."""
