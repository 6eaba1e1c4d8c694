"""URLs of API tokens. None of them contains a token."""

from django.urls import path

from adit.api_tokens import views

urlpatterns = [
    path("accounts/tokens/", views.own_tokens, name="own_tokens"),
    path("accounts/tokens/new/", views.token_new, name="token_new"),
    path("accounts/tokens/<int:pk>/revoke/", views.token_revoke, name="token_revoke"),
    path("users/tokens/", views.all_tokens, name="all_tokens"),
]
