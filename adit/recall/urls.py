"""URLs of deliveries and recalls. None of them contains a patient."""

from django.urls import path

from adit.recall.views import patient_deliveries, recalls

urlpatterns = [
    path("trail/patient/", patient_deliveries.trail_patient, name="trail_patient"),
    path(
        "block-list/<int:pk>/deliveries/",
        patient_deliveries.block_deliveries,
        name="block_deliveries",
    ),
    path("block-list/recalls/", recalls.recall_list, name="recalls"),
    path("block-list/recalls/<int:pk>/", recalls.recall_page, name="recall"),
    path("block-list/recalls/<int:pk>/continue/", recalls.recall_continue, name="recall_continue"),
    path("block-list/recalls/<int:pk>/images/", recalls.recall_images, name="recall_images"),
    path(
        "block-list/recalls/<int:pk>/confirm/<int:number>/",
        recalls.recall_confirm,
        name="recall_confirm",
    ),
    path("block-list/<int:pk>/recall/", recalls.block_recall, name="block_recall"),
    path("jobs/<int:pk>/recall/", recalls.job_recall, name="job_recall"),
]
