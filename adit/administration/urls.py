"""URLs of users, groups, requests for accounts and one-time links.

The token of a link is a parameter, because logs contain paths of requests without parameters.
"""

from django.urls import path

from adit.administration.views import account_requests, configuration, groups, links, users

urlpatterns = [
    path("users/", users.user_list, name="users"),
    path("users/new/", users.user_new, name="user_new"),
    path("users/new/service/", users.service_account_new, name="service_account_new"),
    path("users/<int:pk>/", users.user_page, name="user"),
    path("users/<int:pk>/edit/", users.user_edit, name="user_edit"),
    path("users/<int:pk>/token/", users.user_token_new, name="user_token_new"),
    path("users/<int:pk>/deactivate/", users.user_deactivate, name="user_deactivate"),
    path("users/<int:pk>/reactivate/", users.user_reactivate, name="user_reactivate"),
    path("users/<int:pk>/anonymize/", users.user_anonymize, name="user_anonymize"),
    path("users/requests/", account_requests.request_list, name="account_requests"),
    path("users/requests/<int:pk>/", account_requests.request_page, name="account_request"),
    path(
        "users/requests/<int:pk>/decline/",
        account_requests.request_decline,
        name="account_request_decline",
    ),
    path("users/<int:pk>/password/", users.user_password, name="user_password"),
    path(
        "users/<int:pk>/second-factor/reset/",
        users.user_second_factor_reset,
        name="user_second_factor_reset",
    ),
    path("groups/", groups.group_list, name="groups"),
    path("groups/new/", groups.group_new, name="group_new"),
    path("groups/<int:pk>/", groups.group_page, name="group"),
    path("configuration/", configuration.configuration_page, name="configuration"),
    path("configuration/export/", configuration.configuration_export, name="configuration_export"),
    path("configuration/import/", configuration.configuration_import, name="configuration_import"),
    path("accounts/password/link/", links.password_link, name="password_link"),
    path("accounts/password/forgotten/", links.password_forgotten, name="password_forgotten"),
    path("accounts/request/", account_requests.ask_for_account, name="ask_for_account"),
    path("setup/", links.setup, name="setup"),
]
