"""URLs of research projects and profiles. None of them contains patient data."""

from django.urls import path

from adit.projects.views import approval, pixel_rules, profiles, projects, pseudonyms

urlpatterns = [
    path("projects/", projects.project_list, name="projects"),
    path("projects/new/", projects.project_new, name="project_new"),
    path("projects/<int:pk>/", projects.project_page, name="project"),
    path("projects/<int:pk>/edit/", projects.project_edit, name="project_edit"),
    path("projects/<int:pk>/accept/", projects.project_accept, name="project_accept"),
    path("projects/<int:pk>/extend/", projects.project_extend, name="project_extend"),
    path("projects/<int:pk>/approval/", approval.project_document, name="project_document"),
    path(
        "projects/<int:pk>/approval.pdf",
        approval.project_document_file,
        name="project_document_file",
    ),
    path("projects/<int:pk>/revoke/", projects.project_revoke, name="project_revoke"),
    path("projects/<int:pk>/destroy/", projects.project_destroy, name="project_destroy"),
    path("projects/<int:pk>/pseudonyms/", pseudonyms.project_pseudonyms, name="project_pseudonyms"),
    path(
        "projects/<int:pk>/pseudonyms/<int:patient>/",
        pseudonyms.project_reidentify,
        name="project_reidentify",
    ),
    path(
        "projects/<int:pk>/pseudonyms/<int:patient>/join/",
        pseudonyms.project_merge_patient,
        name="project_merge_patient",
    ),
    path("projects/<int:pk>/export/", pseudonyms.project_export, name="project_export"),
    path("projects/<int:pk>/import/", pseudonyms.project_import, name="project_import"),
    path("profiles/", profiles.profile_list, name="profiles"),
    path("profiles/<int:pk>/", profiles.profile_page, name="profile_version"),
    path("profiles/<int:pk>/plain/", profiles.profile_as_text, name="profile_as_text"),
    path("profiles/<int:pk>/next/", profiles.profile_new, name="profile_new"),
    path("profiles/<int:pk>/pixels/", pixel_rules.profile_pixels, name="profile_pixels"),
    path("profiles/<int:pk>/try/", profiles.profile_preview_page, name="profile_preview_page"),
]
