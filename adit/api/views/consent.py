"""The consent list of a project: look up, add and withdraw single patients, export."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from adit.accounts.models import User
from adit.api.order_requests import require_node
from adit.api.problems import invalid_field
from adit.api.representations import format_time
from adit.api.response_serializers import ConsentAnswer, ConsentExportAnswer, ConsentListAnswer
from adit.api.schema import describe
from adit.api.serializers import (
    ConsentSerializer,
    PatientSerializer,
    ReasonSerializer,
    WithdrawalSerializer,
)
from adit.api.views.base import ApiView, get_user, read_body
from adit.api.views.pseudonyms import get_member_project
from adit.api_tokens.tokens import Scope
from adit.consent import changes
from adit.consent.changes import Consent
from adit.consent.checking import get_version
from adit.consent.models import ConsentEntry
from adit.jobs.views.access import record_once
from adit.nodes import access
from adit.projects import services
from adit.projects.models import Project
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

READ = (Scope.JOBS_READ, Scope.IDENTIFIED)
WRITE = (Scope.JOBS_WRITE, Scope.IDENTIFIED)


class ConsentListView(ApiView):
    scopes = {"GET": (Scope.JOBS_READ,)}

    @describe(
        "consent_get",
        "The state of the consent list of a project, without its patients.",
        ConsentListAnswer,
    )
    def get(self, request: Request, protocol_id: str) -> Response:
        _user, project = _get_project(request, protocol_id)
        version = get_version(project)
        entries = ConsentEntry.objects.filter(project=project, replaced_in=None)
        withdrawn = entries.exclude(withdrawn_on=None).count()
        return Response(
            {
                "version": 0 if version is None else version.number,
                "is_in_use": version is not None and version.is_in_use,
                "patients": entries.count() - withdrawn,
                "withdrawn": withdrawn,
                "changed_at": None if version is None else format_time(version.created_at),
            }
        )


class ConsentLookupView(ApiView):
    scopes = {"POST": READ}

    @describe(
        "consent_lookup",
        "The consent of a patient on the list, for holders of the identification list.",
        ConsentAnswer,
        request=PatientSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = _get_project(request, protocol_id)
        given = read_body(request, PatientSerializer)
        entry = _find_entry(request, user, project, given)
        record_once("consent.viewed", user, services.audit_subject(project), {"page": "API"})
        return Response(_represent(entry))


class ConsentPatientsView(ApiView):
    scopes = {"POST": WRITE}

    @describe(
        "consent_add",
        "Add a patient to the consent list, or replace the consent. The first one puts it in use.",
        ConsentAnswer,
        status=201,
        request=ConsentSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = _get_project(request, protocol_id)
        given = read_body(request, ConsentSerializer)
        domain = _find_domain(request, user, given)
        try:
            modalities = changes.normalize_modalities(given["modalities"])
        except InvalidInput as error:
            raise invalid_field("modalities", error.message) from None
        consent = Consent(domain, given["patient_id"], modalities, given["valid_until"])
        entry = changes.save_consent(user, project, consent, given["reason"])
        return Response(_represent(entry), status=201)


class ConsentWithdrawalView(ApiView):
    scopes = {"POST": WRITE}

    @describe(
        "consent_withdraw",
        "Withdraw the consent of a patient. Running transfers stop within a minute.",
        ConsentAnswer,
        request=WithdrawalSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = _get_project(request, protocol_id)
        given = read_body(request, WithdrawalSerializer)
        entry = _find_entry(request, user, project, given)
        withdrawn = changes.withdraw_consent(user, entry, given["withdrawn_on"], given["reason"])
        return Response(_represent(withdrawn))


class ConsentExportView(ApiView):
    scopes = {"POST": READ}

    @describe(
        "consent_export",
        "All patients of the consent list, with a reason, for those who may also re-identify.",
        ConsentExportAnswer,
        request=ReasonSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = _get_project(request, protocol_id)
        entries = changes.export_list(user, project, read_body(request, ReasonSerializer)["reason"])
        return Response({"results": [_represent(entry) for entry in entries]})


def _get_project(request: Request, protocol_id: str) -> tuple[User, Project]:
    """Return user and project. Raises Http404, NotPermitted."""
    user, project = get_user(request), get_member_project(request, protocol_id)
    services.require_list(user, project)
    services.require_key(project)
    return user, project


def _find_domain(request: Request, user: User, given: dict[str, Any]) -> str:
    """Return the patient ID domain of the node in the body. Raises ApiProblem."""
    return access.get_domain(
        require_node(request, access.readable_nodes(user), given["node"], "node")
    )


def _find_entry(
    request: Request, user: User, project: Project, given: dict[str, Any]
) -> ConsentEntry:
    """Return the entry of the patient in the body. Raises ApiProblem."""
    wanted = Consent(_find_domain(request, user, given), given["patient_id"])
    index = wanted.compute_index(services.get_project_cipher(project))
    entry = changes.find_current(project, [index]).get(index)
    if entry is None:
        raise invalid_field(
            "patient_id", Message("consent.not-listed", project=project.protocol_id)
        )
    return entry


def _represent(entry: ConsentEntry) -> dict[str, Any]:
    return {
        "domain": entry.domain,
        "patient_id": entry.patient_id,
        "modalities": list(entry.allowed_modalities),
        "valid_until": entry.valid_until,
        "withdrawn_on": entry.withdrawn_on,
    }
