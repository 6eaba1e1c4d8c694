"""URLs of results that do not belong to one job. None of them contains a patient."""

from django.urls import path

from adit.results.views import patient_deliveries

urlpatterns = [
    path(
        "block-list/<int:pk>/deliveries/",
        patient_deliveries.block_deliveries,
        name="block_deliveries",
    ),
]
