"""Every page has a title of its own and one heading."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from adit.accounts.models import User
from adit.administration.models import AccountRequest
from adit.blocklist.blocking import block_patient
from adit.consent.changes import Consent, save_consent
from adit.jobs.models import DeviceDecision, Job, SeriesResult, WithheldImages
from adit.nodes.models import Node
from adit.projects import pseudonyms
from adit.projects.models import Patient, Project
from adit.recall.recalls import start_recall
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import create_webhook
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

NO_PAGES = {
    # fragments, files, texts, redirects and actions
    *("home_live", "job_live", "job_task_live"),
    *("healthz", "readyz", "metrics", "sample", "withheld_picture", "archive_file"),
    *("job_report_file", "job_results_file", "job_batch_result", "job_batch_pseudonyms"),
    *("job_batch_failed_rows", "job_query_template", "job_transfer_template"),
    *("project_consent_template", "project_consent_check", "node_month_xlsx", "node_month_pdf"),
    *("node_sheet_text", "node_usage_csv", "node_usage_xlsx", "trail_export", "trail_verify"),
    *("theme", "job_cancel_search", "job_action", "job_return", "job_task_action"),
    *("job_task_decide", "job_batch_start", "withheld_devices", "node_action", "node_end"),
    *("node_test", "node_fetch", "node_write", "node_adopt", "quarantine_delete"),
    *("project_accept", "project_revoke", "openid_connect_login", "openid_connect_callback"),
    *("notification_read", "notifications_read", "system_test_mail", "confirm_key_backup"),
    *("project_document_file", "session_end", "session_end_others"),
    *("recall_continue", "recall_images", "recall_confirm"),
    *("user_reactivate", "user_password", "token_revoke", "user_second_factor_reset"),
    "account_request_decline",
    *("webhook_test", "webhook_enable", "webhook_delete"),
    *("dicomweb_find_studies", "dicomweb_find_any_series", "dicomweb_find_series"),
    *("dicomweb_find_images_of_study", "dicomweb_find_images", "dicomweb_retrieval"),
    *("dicomweb_study", "dicomweb_series", "dicomweb_image", "dicomweb_study_metadata"),
    *("dicomweb_series_metadata", "dicomweb_image_metadata"),
    *("dicomweb_store", "dicomweb_store_study"),
    *("dicomweb_series_of_study", "dicomweb_unknown_address"),
    *("dicomweb_frames", "dicomweb_frame_rendered", "dicomweb_rendered", "dicomweb_bulk_data"),
    *("dicomweb_study_thumbnail", "dicomweb_series_thumbnail", "dicomweb_image_thumbnail"),
    # pages that need a draft, a 7-Zip job, or an account that is not active or not signed in
    *("job_summary", "job_query_columns", "job_query_rows", "job_transfer_columns"),
    *("job_transfer_rows", "job_password", "account_inactive", "account_login"),
    # a page that needs a service account
    "user_token_new",
    # a download, and a page that needs a file
    *("configuration_export", "configuration_import"),
    # pages that need a one-time link
    *("password_link", "setup"),
    # pages that need a second factor, or a password that was entered just now
    *("mfa_authenticate", "mfa_reauthenticate", "mfa_activate_totp", "mfa_deactivate_totp"),
    *("mfa_view_recovery_codes", "mfa_generate_recovery_codes", "mfa_add_webauthn"),
    *("mfa_edit_webauthn", "mfa_remove_webauthn", "mfa_reauthenticate_webauthn"),
}
"""Routes without a page that this test can open."""
WITHOUT_ARGUMENTS = {
    "job_new_selective",
    "job_new_query",
    "job_new_transfer",
    "node_new",
    "project_new",
    "profile",
    "user_new",
    "service_account_new",
    "group_new",
}


def named_routes(resolver: URLResolver | None = None) -> Iterator[str]:
    """Yield the names of all routes but those of the API."""
    for part in (resolver or get_resolver()).url_patterns:
        if isinstance(part, URLResolver):
            yield from named_routes(part)
        elif isinstance(part, URLPattern) and part.name and not part.name.startswith("api_"):
            yield part.name


@pytest.fixture
def arguments(
    root: User,
    source: Node,
    project: Project,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    settings: LazySettings,
) -> Mapping[str, list[Any]]:
    """The arguments of each route that needs some."""
    settings.SELF_REGISTRATION = True
    job, query, transfer = (make_job(root, project=project) for _ in range(3))
    Job.objects.filter(pk=query.pk).update(kind="batch_query")
    Job.objects.filter(pk=transfer.pk).update(kind="batch_transfer")
    item = make_item(job.tasks.get(), expected=1, withheld=1)
    withheld = WithheldImages.objects.create(
        item=item, code="conversion", reason=Message("conversion.capture"), images=1
    )
    decision = DeviceDecision.objects.create(
        project=project, decision="left", images=1, reason="x", decided_by=root,
        decided_at=timezone.now(),
    )  # fmt: skip
    pseudonyms.register_pseudonym(root, project, source, "PID-1")
    patient = Patient.objects.get()
    entry = block_patient(root, None, "", "PID-2", reason="objection", withdrawn_on=date.today())
    recalled = make_job(root, project=project)
    make_item(recalled.tasks.get(), expected=1, delivered=1)
    recall = start_recall(
        root, recalled, reason="x", confirm_by=date.today(), deletes_shared_archives=True
    )
    consent = save_consent(root, project, Consent(source.name, "PID-1"), "form received")
    group = Group.objects.create(name="Readers")
    url = "https://hooks.example.org/"
    webhook, _secret = create_webhook(root, "hook", url, WebhookEvent.values, None)
    found: dict[str, list[Any]] = {
        "block_end": [entry.pk],
        "block_deliveries": [entry.pk],
        "block_recall": [entry.pk],
        "recall": [recall.pk],
        "project_consent_withdraw": [project.pk, consent.pk],
        "project_consent_version": [project.pk, 1],
        "job_results": [query.pk],
        "job_batch_rows": [transfer.pk],
        "job_task": [job.pk, 1],
        "withheld_group": [withheld.pk],
        "withheld_decision": [decision.pk],
        "account_request": [AccountRequest.objects.create(username="new").pk],
        "uid_map": [project.pk],
        "webhook": [webhook.pk],
        "help_topic": ["jobs"],
        "node_new_kind": ["dimse"],
        "history": ["node", source.pk],
    }
    for name in ("project_reidentify", "project_merge_patient"):
        found[name] = [project.pk, patient.pk]
    for name in named_routes():
        for prefix, pk in (
            ("job_", job.pk),
            ("node_", source.pk),
            ("project_", project.pk),
            ("profile_", project.profile_id),
            ("user_", root.pk),
            ("group_", group.pk),
        ):
            if (name + "_").startswith(prefix) and name not in WITHOUT_ARGUMENTS:
                found.setdefault(name, [pk])
    return found


def test_every_page_has_a_title_of_its_own_and_a_heading(
    root: User, as_user: Callable[[User | None], Client], arguments: Mapping[str, list[Any]]
) -> None:
    client = as_user(root)
    routes: dict[str, list[str]] = {}
    for name in dict.fromkeys(named_routes()):
        if name in NO_PAGES:
            continue
        path = reverse(name, args=arguments.get(name))
        answer = client.get(path)
        assert answer.status_code == 200, (name, path, answer.status_code)
        page = answer.content.decode()
        (title,) = re.findall(r"<title>(.*?)</title>", page.partition("</head>")[0], re.S)
        headings = re.findall(r"<h1[^>]*>(.*?)</h1>", page, re.S)
        assert len(headings) == 1, name
        assert headings[0].strip(), name
        assert title.removesuffix(" · ADIT").strip(), name
        routes.setdefault(title, []).append(name)
    shared = {title: names for title, names in routes.items() if len(names) > 1}
    assert not shared
