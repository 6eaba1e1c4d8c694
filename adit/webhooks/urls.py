"""URLs of one's own webhooks. None of them contains a secret."""

from django.urls import path

from adit.webhooks import views

urlpatterns = [
    path("accounts/webhooks/", views.webhook_list, name="webhooks"),
    path("accounts/webhooks/new/", views.webhook_new, name="webhook_new"),
    path("accounts/webhooks/<int:pk>/", views.webhook_page, name="webhook"),
    path("accounts/webhooks/<int:pk>/test/", views.webhook_test, name="webhook_test"),
    path("accounts/webhooks/<int:pk>/enable/", views.webhook_enable, name="webhook_enable"),
    path("accounts/webhooks/<int:pk>/delete/", views.webhook_delete, name="webhook_delete"),
]
