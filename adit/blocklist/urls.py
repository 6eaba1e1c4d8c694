"""URLs of the block list. None of them contains a patient."""

from django.urls import path

from adit.blocklist import views

urlpatterns = [
    path("block-list/", views.block_list, name="block_list"),
    path("block-list/new/", views.block_new, name="block_new"),
    path("block-list/<int:pk>/end/", views.block_end, name="block_end"),
]
