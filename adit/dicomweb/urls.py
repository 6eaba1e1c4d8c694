"""URLs of the DICOMweb API, below the AE title of a node: a fixed contract with client libraries."""

from django.urls import path

from adit.dicomweb import viewer_views, views

_QIDO_STUDY = "<str:ae_title>/qidors/studies/<str:study>"
_STUDY = "<str:ae_title>/wadors/studies/<str:study>"
_SERIES = f"{_STUDY}/series/<str:series>"
_INSTANCE = f"{_SERIES}/instances/<str:instance>"

urlpatterns = [
    path("<str:ae_title>/qidors/studies", views.search_studies, name="dicomweb_find_studies"),
    path("<str:ae_title>/qidors/series", views.search_series, name="dicomweb_find_any_series"),
    path(f"{_QIDO_STUDY}/series", views.search_series, name="dicomweb_find_series"),
    path(f"{_QIDO_STUDY}/instances", views.search_instances, name="dicomweb_find_images_of_study"),
    path(
        f"{_QIDO_STUDY}/series/<str:series>/instances",
        views.search_instances,
        name="dicomweb_find_images",
    ),
    # OHIF lists the series of a study below the address for retrieval.
    path(f"{_STUDY}/series", views.search_series, name="dicomweb_series_of_study"),
    path(_STUDY, views.retrieve, name="dicomweb_study"),
    path(_SERIES, views.retrieve, name="dicomweb_series"),
    path(_INSTANCE, views.retrieve, name="dicomweb_image"),
    path(f"{_STUDY}/metadata", views.retrieve_metadata, name="dicomweb_study_metadata"),
    path(f"{_SERIES}/metadata", viewer_views.show_series_metadata, name="dicomweb_series_metadata"),
    path(f"{_INSTANCE}/metadata", views.retrieve_metadata, name="dicomweb_image_metadata"),
    path(f"{_INSTANCE}/frames/<str:frames>", viewer_views.show_frames, name="dicomweb_frames"),
    path(
        f"{_INSTANCE}/frames/<str:frames>/rendered",
        viewer_views.show_rendered,
        name="dicomweb_frame_rendered",
    ),
    path(f"{_INSTANCE}/rendered", viewer_views.show_rendered, name="dicomweb_rendered"),
    path(f"{_STUDY}/thumbnail", viewer_views.show_thumbnail, name="dicomweb_study_thumbnail"),
    path(f"{_SERIES}/thumbnail", viewer_views.show_thumbnail, name="dicomweb_series_thumbnail"),
    path(f"{_INSTANCE}/thumbnail", viewer_views.show_thumbnail, name="dicomweb_image_thumbnail"),
    path(f"{_INSTANCE}/bulkdata/<str:tag>", viewer_views.show_bulk_data, name="dicomweb_bulk_data"),
    path("<str:ae_title>/retrievals/<str:key>", views.show_retrieval, name="dicomweb_retrieval"),
    path("<str:ae_title>/stowrs/studies", views.store, name="dicomweb_store"),
    path("<str:ae_title>/stowrs/studies/<str:study>", views.store, name="dicomweb_store_study"),
    path("<path:address>", views.show_unknown_address, name="dicomweb_unknown_address"),
]
