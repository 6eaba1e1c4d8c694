"""Addresses of research projects and profiles; none of them tells anything about a patient."""

from django.urls import path

from adit.profiles.views import pixels, projects, pseudonyms, rules

urlpatterns = [
    path("projects/", projects.trial_list, name="trials"),
    path("projects/new/", projects.trial_new, name="trial_new"),
    path("projects/<int:pk>/", projects.trial_page, name="trial"),
    path("projects/<int:pk>/edit/", projects.trial_edit, name="trial_edit"),
    path("projects/<int:pk>/accept/", projects.trial_accept, name="trial_accept"),
    path("projects/<int:pk>/revoke/", projects.trial_revoke, name="trial_revoke"),
    path("projects/<int:pk>/destroy/", projects.trial_destroy, name="trial_destroy"),
    path("projects/<int:pk>/pseudonyms/", pseudonyms.trial_pseudonyms, name="trial_pseudonyms"),
    path(
        "projects/<int:pk>/pseudonyms/<int:patient>/",
        pseudonyms.trial_reidentify,
        name="trial_reidentify",
    ),
    path(
        "projects/<int:pk>/pseudonyms/<int:patient>/join/",
        pseudonyms.trial_join,
        name="trial_join",
    ),
    path("projects/<int:pk>/export/", pseudonyms.trial_export, name="trial_export"),
    path("projects/<int:pk>/import/", pseudonyms.trial_import, name="trial_import"),
    path("profiles/", rules.profile_list, name="profiles"),
    path("profiles/<int:pk>/", rules.profile_page, name="profile_version"),
    path("profiles/<int:pk>/plain/", rules.profile_plain, name="profile_plain"),
    path("profiles/<int:pk>/next/", rules.profile_new, name="profile_new"),
    path("profiles/<int:pk>/pixels/", pixels.profile_pixels, name="profile_pixels"),
    path("profiles/<int:pk>/try/", rules.profile_try, name="profile_try"),
]
