"""Nodes, research projects and profiles that the user may use, and searches in a node."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.api.order_requests import require_node
from adit.api.pagination import PARAMETERS, make_page
from adit.api.problems import invalid_field
from adit.api.representations import (
    represent_message,
    represent_nodes,
    represent_profile,
    represent_project,
)
from adit.api.response_serializers import (
    NodeAnswer,
    NodeTestAnswer,
    ProfileAnswer,
    ProfileTextAnswer,
    ProjectAnswer,
    SearchAnswer,
    page_of,
)
from adit.api.schema import PAGE_PARAMETERS, describe
from adit.api.serializers import MAX_QUERY_KEYS, EmptySerializer, SearchSerializer
from adit.api.views.base import ApiView, find_node, get_token, get_user, read_body
from adit.api_tokens.tokens import Scope, allowed_nodes
from adit.nodes import access, diagnostics, search
from adit.nodes.models import Node
from adit.projects import services
from adit.projects.models import ProfileVersion, Project
from adit.results.query_results import MASK
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding
from adit_engine.values.query import RETURN_KEYS, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

LEVELS = {
    "study": QueryLevel.STUDY,
    "series": QueryLevel.SERIES,
    "instance": QueryLevel.IMAGE,
}
_PARENTS = {
    QueryLevel.SERIES: ("StudyInstanceUID",),
    QueryLevel.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID"),
}
_MASKED = ("PatientName", "PatientBirthDate")
"""Values that only users with the permission see, and may search for."""


class NodesView(ApiView):
    parameters = PARAMETERS

    @describe(
        "nodes_list",
        "PACS and folders that you may use.",
        page_of(NodeAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        user = get_user(request)
        nodes = allowed_nodes(get_token(request), access.visible_nodes(user))
        return Response(make_page(request, nodes, lambda rows: represent_nodes(user, rows)))


class NodeView(ApiView):
    @describe("nodes_get", "One PACS or folder.", NodeAnswer)
    def get(self, request: Request, pk: int) -> Response:
        user = get_user(request)
        return Response(represent_nodes(user, [_get_node(request, user, pk)])[0])


class NodeTestView(ApiView):
    scopes = {"POST": (Scope.QUERY,)}

    @describe(
        "nodes_test",
        "Test a PACS or folder, as its page does. Takes some seconds.",
        NodeTestAnswer,
        request=EmptySerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        read_body(request, EmptySerializer)
        user = get_user(request)
        findings = diagnostics.check_node(user, _get_node(request, user, pk))
        is_passed = bool(findings) and all(one.grade is not Grade.BAD for one in findings)
        return Response(
            {"is_passed": is_passed, "findings": [_represent_finding(one) for one in findings]}
        )


def _get_node(request: Request, user: User, pk: int) -> Node:
    """Return a node that user and token may use. Raises Http404."""
    node = find_node(request, access.visible_nodes(user), pk)
    if node is None:
        raise Http404
    return node


def _represent_finding(finding: NodeFinding) -> dict[str, Any]:
    step = finding.next_step
    return {
        **represent_message(finding.what),
        "grade": finding.grade.value,
        "next_step": None if step is None else represent_message(step),
    }


class ProjectsView(ApiView):
    parameters = PARAMETERS

    @describe(
        "projects_list",
        "Research projects that you see.",
        page_of(ProjectAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        projects = services.visible_projects(get_user(request)).filter(is_default=False)

        def represent(rows: Sequence[Project]) -> list[dict[str, Any]]:
            return [represent_project(project) for project in rows]

        return Response(make_page(request, projects.select_related("profile"), represent))


class ProjectView(ApiView):
    @describe("projects_get", "One research project.", ProjectAnswer)
    def get(self, request: Request, protocol_id: str) -> Response:
        projects = services.visible_projects(get_user(request)).filter(is_default=False)
        project = projects.select_related("profile").filter(protocol_id=protocol_id).first()
        if project is None:
            raise Http404
        return Response(represent_project(project))


class ProfilesView(ApiView):
    parameters = PARAMETERS

    @describe(
        "profiles_list",
        "De-identification profiles.",
        page_of(ProfileAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        def represent(rows: Sequence[ProfileVersion]) -> list[dict[str, Any]]:
            return [represent_profile(profile) for profile in rows]

        return Response(make_page(request, ProfileVersion.objects.all(), represent))


class ProfileView(ApiView):
    @describe("profiles_get", "One profile, with its rules.", ProfileTextAnswer)
    def get(self, request: Request, pk: int) -> Response:
        profile = ProfileVersion.objects.filter(pk=pk).first()
        if profile is None:
            raise Http404
        return Response({**represent_profile(profile), "text": profile.text})


class SearchesView(ApiView):
    scopes = {"POST": (Scope.QUERY,)}

    @describe(
        "searches_create", "Search in one PACS or folder.", SearchAnswer, request=SearchSerializer
    )
    def post(self, request: Request) -> Response:
        """Search in one node, with the limits of the search page."""
        values = read_body(request, SearchSerializer)
        user = get_user(request)
        node = require_node(request, access.readable_nodes(user), values["node"], "node")
        query = _make_query(user, LEVELS[values["level"]], values["query"])
        found = search.search_studies(user, node, query, named=values["purpose"])
        limit = values.get("limit", settings.SEARCH_LIMIT)
        shown = found.records[:limit]
        is_whole = len(shown) == len(found.records) and not (found.more or found.is_capped)
        return Response(
            {
                "results": _represent_records(user, shown),
                "complete": is_whole,
                "notes": [] if is_whole else [_explain_gap(node, len(shown), found)],
            }
        )


def _make_query(user: User, level: QueryLevel, given: Mapping[str, Any]) -> Query:
    """Return the query. Raises ApiProblem that names the keyword."""
    if len(given) > MAX_QUERY_KEYS:
        raise invalid_field("query", Message("api.many-keywords", limit=MAX_QUERY_KEYS))
    sees_identified = has_right(user, Right.SEE_IDENTIFIED)
    for keyword in _PARENTS.get(level, ()):
        if not given.get(keyword):
            raise invalid_field(f"query.{keyword}", Message("api.parent-uid-missing"))
    keys: dict[str, str | tuple[str, ...]] = {}
    for keyword, value in given.items():
        field = f"query.{keyword[:64]}"
        if not sees_identified and (keyword in _MASKED or keyword not in RETURN_KEYS[level]):
            raise invalid_field(field, Message("api.keyword-not-permitted"))
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
            raise invalid_field(field, Message("api.query-value"))
        texts = tuple(str(part) for part in parts)
        keys[keyword] = texts if isinstance(value, list) else texts[0]
        try:
            Query(level, {keyword: keys[keyword]})
        except InvalidInput as error:
            raise invalid_field(field, error.message) from None
    if level is QueryLevel.STUDY and "Modality" in keys:
        keys["ModalitiesInStudy"] = keys.pop("Modality")
    return Query(level, keys, wildcards=True)


def _represent_records(user: User, records: Sequence[Record]) -> list[dict[str, Any]]:
    sees_identified = has_right(user, Right.SEE_IDENTIFIED)
    found = []
    for record in records:
        values: dict[str, Any] = {
            keyword: list(value) if isinstance(value, tuple) else value
            for keyword, value in record.values.items()
        }
        if not sees_identified:
            values |= {name: MASK for name in _MASKED if values.get(name)}
        found.append(values)
    return found


def _explain_gap(node: Node, count: int, found: search.SearchResult) -> dict[str, Any]:
    code = "selective.limited-results" if found.is_capped else "selective.more-studies"
    return represent_message(Message(code, node=node.name, count=count))
