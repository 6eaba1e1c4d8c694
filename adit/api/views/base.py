"""The base of all views of the API: token, scope, node limits, and the trail."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from adit.accounts.models import User
from adit.api.problems import invalid_field
from adit.api_tokens import tokens
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import Scope, allowed_nodes, require_scope
from adit.audit import trail
from adit.jobs import visibility
from adit.jobs.models import Job, Task, TaskType
from adit.nodes.models import Node
from adit_engine.messages import Message


class ApiView(APIView):
    """A view that requires a token. `scopes` are those that the token needs for each method."""

    scopes: ClassVar[Mapping[str, tuple[Scope, ...]]] = {}
    parameters: ClassVar[frozenset[str]] = frozenset()
    """The parameters of a GET. Others are refused: a filter that is mistyped would not filter."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with trail.token_scope():
            return super().dispatch(request, *args, **kwargs)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Refuse no `Accept`: each address has one form, which the schema says."""
        return super().perform_content_negotiation(request, force=True)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        token = get_token(request)
        trail.set_token(token.name)
        method = "GET" if request.method == "HEAD" else str(request.method)
        for scope in self.scopes.get(method, ()):
            require_scope(token, scope)
        for name in request.query_params:
            if name not in self.parameters:
                raise invalid_field(name, Message("api.unknown-parameter", name=name[:40]))

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})


def get_user(request: Request) -> User:
    return cast(User, request.user)


def get_token(request: Request) -> ApiToken:
    return cast(ApiToken, request.auth)


def read_body(request: Request, kind: type[Serializer[Any]]) -> dict[str, Any]:
    """Return the validated values of the body. Raises ValidationError."""
    body = kind(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def limited_jobs(request: Request) -> QuerySet[Job]:
    """Return the jobs that the user may see, all nodes of which the token may be used for."""
    jobs = visibility.visible_jobs(get_user(request)).select_related(
        "owner", "project", "destination", "approved_by"
    )
    token = get_token(request)
    if token.all_nodes:
        return jobs
    allowed = allowed_nodes(token, Node.objects.all()).values("pk")
    others = Task.objects.filter(source__isnull=False).exclude(source__in=allowed)
    jobs = jobs.filter(Q(destination=None) | Q(destination__in=allowed))
    return jobs.exclude(pk__in=others.values("job"))


def get_job(request: Request, pk: int) -> Job:
    """Return a job. Raises Http404 if it does not exist for this user and token."""
    job = limited_jobs(request).filter(pk=pk).first()
    if job is None:
        raise Http404
    return job


def get_task(request: Request, pk: int, position: int) -> Task:
    tasks = Task.objects.filter(job=get_job(request, pk), position=position)
    tasks = tasks.exclude(type=TaskType.START)
    task = tasks.select_related("source", "group", "job__project", "job__owner").first()
    if task is None:
        raise Http404
    return task


def find_node(request: Request, nodes: QuerySet[Node], name: int | str) -> Node | None:
    """Return the node with this ID, name or AE title in the API.

    The caller passes the nodes that the user may use; those that the token is not for do not count.
    """
    token = get_token(request)
    if isinstance(name, int):
        return tokens.find_node(token, nodes, pk=name)
    found = tokens.find_node(token, nodes, name=name)
    return found or tokens.find_node(token, nodes, api_ae_title=name)
