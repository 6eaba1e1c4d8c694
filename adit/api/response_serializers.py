"""The answers of the API as serializers, from which the OpenAPI schema is made.

They describe what `representations` returns; tests compare both.
"""

from functools import cache
from typing import Any

from rest_framework import serializers

from adit.api.serializers import BatchQuerySerializer, BatchTransferSerializer
from adit.jobs.models import JobState, name_for_programs

STATES = tuple(dict.fromkeys(map(name_for_programs, JobState)))
"""The states of jobs, as programs know them."""


def _text(**options: Any) -> serializers.CharField:
    return serializers.CharField(**options)


def _maybe_text() -> serializers.CharField:
    return serializers.CharField(allow_null=True)


def _count(**options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, **options)


def _maybe_count() -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, allow_null=True)


def _time() -> serializers.DateTimeField:
    return serializers.DateTimeField(allow_null=True)


class RowFindingAnswer(serializers.Serializer):
    code = _text()
    text = _text()
    column = _text(help_text="Empty: the whole row.")


class RowVerdictAnswer(serializers.Serializer):
    row = _count()
    verdict = _text()
    findings = RowFindingAnswer(many=True)


class ProblemAnswer(serializers.Serializer):
    """An error (RFC 9457)."""

    type = _text()
    title = _text()
    status = serializers.IntegerField()
    code = _text(help_text="Stable: programs may compare it.")
    detail = _text(help_text="A sentence that says what to do.")
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=_text()),
        required=False,
        help_text="Sentences by field, such as `studies.0.study_uid`.",
    )
    rows = RowVerdictAnswer(many=True, required=False, help_text="Of a list that is refused.")


class MessageAnswer(serializers.Serializer):
    code = _text()
    text = _text()


class CountAnswer(MessageAnswer):
    count = _maybe_count()


class ExpectedWithholdingAnswer(CountAnswer):
    is_certain = serializers.BooleanField()


class NodeNameAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()


class TokenAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()
    scopes = serializers.ListField(child=_text())
    nodes = NodeNameAnswer(many=True, allow_null=True, help_text="null: all of the user")
    created_at = _time()
    expires_at = _time()
    last_used_at = _time()
    revoked_at = _time()


class MeAnswer(serializers.Serializer):
    user = _text()
    name = _text()
    permissions = serializers.ListField(child=_text())
    token = TokenAnswer()


class NodeAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()
    kind = _text()
    ae_title = _text()
    can_read = serializers.BooleanField()
    can_write = serializers.BooleanField()
    state = _text(help_text="open, resting, paused or closed")
    reason = _text()


class ProjectAnswer(serializers.Serializer):
    id = _text(help_text="The protocol ID, by which orders name the project.")
    name = _text()
    sponsor = _text()
    state = _text()
    profile = _text()
    modalities = serializers.ListField(child=_text())
    patient_cap = _maybe_count()
    second_person = serializers.BooleanField()
    expires_on = serializers.DateField(allow_null=True)


class ProfileAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()
    version = _count()
    is_frozen = serializers.BooleanField()
    created_at = _time()


class ProfileTextAnswer(ProfileAnswer):
    text = _text()


class SearchAnswer(serializers.Serializer):
    results = serializers.ListField(child=serializers.DictField(child=serializers.JSONField()))
    complete = serializers.BooleanField()
    notes = MessageAnswer(many=True)


class PreviewAnswer(serializers.Serializer):
    expected = _maybe_count()
    withheld = ExpectedWithholdingAnswer(many=True)
    bytes = _count()
    starts_at = _time()
    problems = MessageAnswer(many=True)
    preview = _text(help_text="May be passed on with the order.")
    patients = _count()
    studies = _count()
    series = _maybe_count()
    needs_approval = serializers.BooleanField()
    needs_archive_password = serializers.BooleanField()
    rows = RowVerdictAnswer(many=True, required=False, help_text="Of a list.")


class JobAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    kind = _text()
    state = serializers.ChoiceField(choices=list(STATES))
    expected = _maybe_count()
    delivered = _count()
    withheld = _count()
    skipped = _count()
    failed = _count()
    message = _maybe_text()
    message_code = _maybe_text()
    title = _text()
    owner = _text()
    project = _maybe_text()
    destination = _maybe_text()
    identified = serializers.BooleanField()
    urgent = serializers.BooleanField()
    bytes = _count()
    tasks = _count()
    tasks_ended = _count()
    created_at = _time()
    started_at = _time()
    ended_at = _time()
    archived_at = _time()


class ArchiveFileAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()
    bytes = _count()
    images = _count()
    expires_at = _time()


class JobDetailAnswer(JobAnswer):
    reasons = CountAnswer(many=True)
    left_out = CountAnswer(many=True)
    waits_for = _maybe_text()
    waits_for_code = _maybe_text()
    ends_at = _time()
    rows = serializers.DictField(child=_count(), allow_null=True)
    archives = ArchiveFileAnswer(many=True)
    actions = serializers.ListField(child=_text())


class TaskAnswer(serializers.Serializer):
    number = _count()
    purpose = serializers.ChoiceField(choices=["search", "transfer", "archive"])
    state = _text()
    source = _maybe_text()  # type: ignore[assignment]
    expected = _maybe_count()
    delivered = _count()
    withheld = _count()
    skipped = _count()
    failed = _count()
    message = _maybe_text()
    message_code = _maybe_text()
    failures = _count()
    started_at = _time()
    ended_at = _time()
    pseudonym = _text()
    patient = serializers.DictField(child=_text(), allow_null=True)
    modalities = serializers.ListField(child=_text())


class SeriesAnswer(serializers.Serializer):
    task = _count()
    number = serializers.IntegerField(allow_null=True)
    modality = _text()
    expected = _maybe_count()
    delivered = _count()
    withheld = _count()
    skipped = _count()
    failed = _count()
    bytes = _count()
    is_final = serializers.BooleanField()
    reasons = CountAnswer(many=True)
    notes = MessageAnswer(many=True)
    left_out = MessageAnswer(allow_null=True)


class RowAnswer(serializers.Serializer):
    row = _count()
    state = _text()
    reason = _text()
    next_step = _text()
    cells = serializers.DictField(child=_text())


class FindingAnswer(MessageAnswer):
    grade = serializers.ChoiceField(choices=["good", "warning", "bad"])
    next_step = MessageAnswer(allow_null=True)


class NodeTestAnswer(serializers.Serializer):
    is_passed = serializers.BooleanField()
    findings = FindingAnswer(many=True)


class PseudonymAnswer(serializers.Serializer):
    pseudonym = _text()
    created_at = _time()


class PatientIdAnswer(serializers.Serializer):
    domain = _text(help_text="Where the patient ID is valid.")
    patient_id = _text()


class PatientAnswer(serializers.Serializer):
    pseudonym = _text()
    patient_ids = PatientIdAnswer(many=True)


class ConsentListAnswer(serializers.Serializer):
    version = _count(help_text="0: the project never had a consent list.")
    is_in_use = serializers.BooleanField()
    patients = _count()
    withdrawn = _count()
    changed_at = _time()


class ConsentAnswer(PatientIdAnswer):
    modalities = serializers.ListField(child=_text(), help_text="Empty: all.")
    valid_until = serializers.DateField(allow_null=True)
    withdrawn_on = serializers.DateField(allow_null=True)


class ConsentExportAnswer(serializers.Serializer):
    results = ConsentAnswer(many=True)


class WebhookAnswer(serializers.Serializer):
    id = serializers.IntegerField()
    name = _text()
    url = _text()
    events = serializers.ListField(child=_text())
    project = _maybe_text()
    created_at = _time()
    failing_since = _time()
    disabled_at = _time()


class NewWebhookAnswer(WebhookAnswer):
    secret = _text(help_text="The key of the signatures. It is not shown again.")


class WebhookDeliveryAnswer(serializers.Serializer):
    event_id = serializers.UUIDField()
    event = _text()
    job = serializers.IntegerField(allow_null=True)
    state = _text(help_text="waiting, delivered or given_up")
    attempts = _count()
    status = serializers.IntegerField(allow_null=True, help_text="The last HTTP status.")
    message = _maybe_text()
    created_at = _time()
    last_attempt_at = _time()


class BatchQueryForm(serializers.Serializer):
    """A form with an order (JSON) and a list (.xlsx or .csv)."""

    order = BatchQuerySerializer()
    sheet = serializers.FileField()


class BatchTransferForm(serializers.Serializer):
    """A form with an order (JSON) and a list (.xlsx or .csv)."""

    order = BatchTransferSerializer()
    sheet = serializers.FileField()


@cache
def page_of(answer: type[serializers.Serializer]) -> type[serializers.Serializer]:
    """Return the serializer of a page of a list."""
    fields = {
        "results": answer(many=True),
        "next": serializers.CharField(allow_null=True, help_text="The address of the next page."),
    }
    name = answer.__name__.removesuffix("Answer")
    return type(f"{name}Page", (serializers.Serializer,), fields)
