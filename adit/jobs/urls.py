"""URLs of jobs and orders. No URL contains patient data."""

from django.urls import path

from adit.jobs.views import jobs, tasks
from adit.jobs.views import tasks as views_tasks
from adit.orders.views import batch_query, batch_rows, batch_transfer, selective, selective_start
from adit.orders.views.sheets import make_urls
from adit.results.views import archives, data_protection, query_results, reports
from adit.review import views

urlpatterns = [
    path("", jobs.job_list, name="jobs"),
    path("new/selective/", selective.new_selective, name="job_new_selective"),
    path("new/selective/cancel/", selective.cancel_search, name="job_cancel_search"),
    path("new/selective/summary/<str:key>/", selective_start.order_summary, name="job_summary"),
    *make_urls(batch_query.QUERY_WORKFLOW),
    *make_urls(batch_transfer.TRANSFER_WORKFLOW),
    path("downloads/", archives.archive_list, name="archives"),
    path("withheld/", views.withheld_list, name="withheld"),
    path("withheld/decisions/", views.withheld_decisions, name="withheld_decisions"),
    path("withheld/decisions/<int:pk>/", views.withheld_decision, name="withheld_decision"),
    path("withheld/<int:pk>/", views.withheld_group, name="withheld_group"),
    path("withheld/<int:pk>/devices/", views.withheld_devices, name="withheld_devices"),
    path("withheld/<int:pk>/picture.png", views.withheld_picture, name="withheld_picture"),
    path("uids/<int:pk>/", reports.uid_map, name="uid_map"),
    path("data-protection/", data_protection.export, name="data_protection_export"),
    path("<int:pk>/", jobs.job_page, name="job"),
    path("<int:pk>/rows/", batch_rows.transfer_rows, name="job_batch_rows"),
    path("<int:pk>/rows/start/", batch_rows.transfer_start, name="job_batch_start"),
    path("<int:pk>/result.<str:form>", batch_rows.transfer_result, name="job_batch_result"),
    path(
        "<int:pk>/again.<str:form>", batch_rows.transfer_failed_rows, name="job_batch_failed_rows"
    ),
    path("<int:pk>/live/", jobs.job_live, name="job_live"),
    path("<int:pk>/report/", reports.job_report, name="job_report"),
    path("<int:pk>/report.json", reports.job_report_file, name="job_report_file"),
    path("<int:pk>/results/", query_results.results_page, name="job_results"),
    path("<int:pk>/results.<str:form>", query_results.results_file, name="job_results_file"),
    path("<int:pk>/delete/", jobs.job_delete, name="job_delete"),
    path("<int:pk>/files/<int:number>/", archives.archive_file, name="archive_file"),
    path("<int:pk>/password/<slug:verb>/", archives.job_password, name="job_password"),
    path("<int:pk>/return/", jobs.job_action, {"verb": "return"}, name="job_return"),
    path("<int:pk>/do/<slug:verb>/", jobs.job_action, name="job_action"),
    path("<int:pk>/<int:position>/", tasks.task_page, name="job_task"),
    path("<int:pk>/<int:position>/live/", tasks.task_live, name="job_task_live"),
    path("<int:pk>/<int:position>/decide/", views_tasks.task_decide, name="job_task_decide"),
    path("<int:pk>/<int:position>/do/<slug:verb>/", tasks.task_action, name="job_task_action"),
]
