"""Pseudonyms of a project: list, look up for a patient, and find the patient of one."""

from collections.abc import Sequence
from typing import Any

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api.order_requests import require_node
from adit.api.pagination import PARAMETERS, make_page
from adit.api.problems import invalid_field
from adit.api.representations import format_time
from adit.api.response_serializers import PatientAnswer, PseudonymAnswer, page_of
from adit.api.schema import PAGE_PARAMETERS, describe
from adit.api.serializers import PatientSerializer, ReidentificationSerializer
from adit.api.views.base import ApiView, get_user, read_body
from adit.api_tokens.tokens import Scope
from adit.jobs.views.access import record_once
from adit.nodes import access
from adit.projects import pseudonyms, services
from adit.projects.models import Patient, Project
from adit.projects.reidentification import reidentify
from adit_engine.messages import Message


class PseudonymsView(ApiView):
    scopes = {"GET": (Scope.JOBS_READ,)}
    parameters = PARAMETERS

    @describe(
        "pseudonyms_list",
        "The pseudonyms of a research project, without their patients.",
        page_of(PseudonymAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request, protocol_id: str) -> Response:
        patients = get_member_project(request, protocol_id).patients.defer("sealed", "index")

        def represent(rows: Sequence[Patient]) -> list[dict[str, Any]]:
            return [_represent(patient) for patient in rows]

        return Response(make_page(request, patients, represent))


class PseudonymLookupView(ApiView):
    scopes = {"POST": (Scope.JOBS_READ, Scope.IDENTIFIED)}

    @describe(
        "pseudonyms_lookup",
        "The pseudonym of a patient, for holders of the identification list.",
        PseudonymAnswer,
        request=PatientSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = get_user(request), get_member_project(request, protocol_id)
        services.require_list(user, project)
        services.require_key(project)
        given = read_body(request, PatientSerializer)
        node = require_node(request, access.readable_nodes(user), given["node"], "node")
        name = pseudonyms.find_pseudonym(project, access.get_domain(node), given["patient_id"])
        record_once("pseudonyms.seen", user, services.audit_subject(project), {"page": "API"})
        if not name:
            raise Http404
        return Response(_represent(project.patients.get(pseudonym=name)))


class ReidentificationView(ApiView):
    scopes = {"POST": (Scope.JOBS_READ, Scope.IDENTIFIED)}

    @describe(
        "pseudonyms_reidentify",
        "The patient of a pseudonym, with a reason. Each use is recorded.",
        PatientAnswer,
        request=ReidentificationSerializer,
    )
    def post(self, request: Request, protocol_id: str) -> Response:
        user, project = get_user(request), get_member_project(request, protocol_id)
        services.require_reidentify(user, project)
        given = read_body(request, ReidentificationSerializer)
        patient = project.patients.filter(pseudonym=given["pseudonym"]).first()
        if patient is None:
            raise invalid_field("pseudonym", Message("api.unknown-pseudonym"))
        found = reidentify(user, patient, given["reason"])
        ids = ((found.domain, found.patient_id), *found.merged_ids)
        return Response(
            {
                "pseudonym": found.pseudonym,
                "patient_ids": [{"domain": domain, "patient_id": number} for domain, number in ids],
            }
        )


def get_member_project(request: Request, protocol_id: str) -> Project:
    """Return a project of which the user is a member. Raises Http404."""
    user = get_user(request)
    projects = services.visible_projects(user).filter(is_default=False)
    project = projects.filter(protocol_id=protocol_id).first()
    if project is None or not services.is_member(user, project):
        raise Http404
    return project


def _represent(patient: Patient) -> dict[str, Any]:
    return {"pseudonym": patient.pseudonym, "created_at": format_time(patient.created_at)}
