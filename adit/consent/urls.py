"""URLs of the consent list of a project. None of them contains a patient."""

from django.urls import path

from adit.consent import views

urlpatterns = [
    path("projects/<int:pk>/consent/", views.project_consent, name="project_consent"),
    path("projects/<int:pk>/consent/new/", views.project_consent_new, name="project_consent_new"),
    path(
        "projects/<int:pk>/consent/upload/",
        views.project_consent_upload,
        name="project_consent_upload",
    ),
    path(
        "projects/<int:pk>/consent/upload/check/",
        views.project_consent_check,
        name="project_consent_check",
    ),
    path(
        "projects/<int:pk>/consent/template.<str:form>",
        views.project_consent_template,
        name="project_consent_template",
    ),
    path(
        "projects/<int:pk>/consent/versions/<int:number>/",
        views.project_consent_version,
        name="project_consent_version",
    ),
    path(
        "projects/<int:pk>/consent/export/",
        views.project_consent_export,
        name="project_consent_export",
    ),
    path(
        "projects/<int:pk>/consent/remove/",
        views.project_consent_remove,
        name="project_consent_remove",
    ),
    path(
        "projects/<int:pk>/consent/<int:number>/withdraw/",
        views.project_consent_withdraw,
        name="project_consent_withdraw",
    ),
]
