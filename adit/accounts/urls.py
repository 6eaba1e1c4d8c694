"""URLs of sign-in, sign-out, password change and account settings."""

from allauth.account import views as allauth
from django.urls import path

from adit.accounts import openid_connect, views

urlpatterns = [
    path("login/", allauth.login, name="account_login"),
    path("logout/", allauth.logout, name="account_logout"),
    path("oidc/<str:provider_id>/", openid_connect.start, name="openid_connect_login"),
    path(
        "oidc/<str:provider_id>/callback/",
        openid_connect.callback,
        name="openid_connect_callback",
    ),
    path("inactive/", allauth.account_inactive, name="account_inactive"),
    path("password/change/", views.change_password, name="account_change_password"),
    path("profile/", views.account_settings, name="profile"),
    path("sessions/", views.session_list, name="sessions"),
    path("sessions/<int:pk>/end/", views.end_session, name="session_end"),
    path("sessions/end-others/", views.end_other_sessions, name="session_end_others"),
    path("theme/", views.set_theme, name="theme"),
]
