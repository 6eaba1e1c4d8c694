"""URLs of sign-in, sign-out, password change and account settings."""

from allauth.account import views as allauth
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from django.urls import include, path

from adit.accounts import openid_connect, security_keys, views

second_factor = [
    path("", views.second_factor, name="mfa_index"),
    path("authenticate/", security_keys.authenticate, name="mfa_authenticate"),
    path("reauthenticate/", security_keys.reauthenticate, name="mfa_reauthenticate"),
    path("app/", totp.activate_totp, name="mfa_activate_totp"),
    path("app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path("keys/add/", security_keys.add_key, name="mfa_add_webauthn"),
    path("keys/<int:pk>/rename/", security_keys.rename_key, name="mfa_edit_webauthn"),
    path("keys/<int:pk>/remove/", security_keys.remove_key, name="mfa_remove_webauthn"),
    path(
        "keys/reauthenticate/",
        security_keys.reauthenticate_with_key,
        name="mfa_reauthenticate_webauthn",
    ),
    path("codes/", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("codes/new/", recovery_codes.generate_recovery_codes, name="mfa_generate_recovery_codes"),
]
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
    path("reauthenticate/", allauth.reauthenticate, name="account_reauthenticate"),
    path("second-factor/", include(second_factor)),
    path("profile/", views.account_settings, name="profile"),
    path("sessions/", views.session_list, name="sessions"),
    path("sessions/<int:pk>/end/", views.end_session, name="session_end"),
    path("sessions/end-others/", views.end_other_sessions, name="session_end_others"),
    path("theme/", views.set_theme, name="theme"),
]
