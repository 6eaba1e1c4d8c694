"""URLs of one's own notifications."""

from django.urls import path

from adit.notifications import views

urlpatterns = [
    path("notifications/", views.notification_list, name="notifications"),
    path("notifications/read/", views.notifications_read, name="notifications_read"),
    path("notifications/<int:pk>/read/", views.notification_read, name="notification_read"),
    path("notifications/mails/", views.notification_mails, name="notification_mails"),
]
