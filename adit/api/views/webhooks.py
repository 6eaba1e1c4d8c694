"""The own webhooks."""

from typing import Any

from django.http import Http404, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api.idempotency import answer_once
from adit.api.pagination import PARAMETERS, make_page
from adit.api.problems import ApiProblem, invalid_field
from adit.api.representations import represent_webhook, represent_webhook_delivery
from adit.api.response_serializers import (
    NewWebhookAnswer,
    WebhookAnswer,
    WebhookDeliveryAnswer,
    page_of,
)
from adit.api.schema import PAGE_PARAMETERS, describe
from adit.api.serializers import EmptySerializer, WebhookSerializer
from adit.api.views.base import ApiView, get_token, get_user, read_body
from adit.api_tokens.tokens import Scope
from adit.projects.services import member_projects
from adit.webhooks import services
from adit.webhooks.models import Webhook
from adit_engine.messages import Message

READ = (Scope.JOBS_READ,)
WRITE = (Scope.JOBS_READ, Scope.JOBS_WRITE)


class _WebhookApiView(ApiView):
    """A token for single nodes sees only their jobs; a webhook has no such limit."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not get_token(request).all_nodes:
            raise ApiProblem(403, Message("webhook.token-with-nodes"))


class WebhooksView(_WebhookApiView):
    scopes = {"GET": READ, "POST": WRITE}
    parameters = PARAMETERS

    @describe("webhooks_list", "Your webhooks.", page_of(WebhookAnswer), parameters=PAGE_PARAMETERS)
    def get(self, request: Request) -> Response:
        own = services.own_webhooks(get_user(request))
        return Response(make_page(request, own, lambda rows: [represent_webhook(w) for w in rows]))

    @describe(
        "webhooks_create",
        "Add a webhook. Its secret is in this answer only.",
        NewWebhookAnswer,
        status=201,
        request=WebhookSerializer,
    )
    @answer_once
    def post(self, request: Request) -> Response:
        values, user = read_body(request, WebhookSerializer), get_user(request)
        project = None
        if values["project"]:
            project = member_projects(user).filter(protocol_id=values["project"]).first()
            if project is None:
                raise invalid_field("project", Message("webhook.not-a-member"))
        webhook, secret = services.create_webhook(
            user, values["name"], values["url"], values["events"], project
        )
        answer = {**represent_webhook(webhook), "secret": secret}
        return Response(answer, 201, headers={"Location": f"{request.path}/{webhook.pk}"})


class WebhookView(_WebhookApiView):
    scopes = {"GET": READ, "DELETE": WRITE}

    @describe("webhooks_get", "One of your webhooks.", WebhookAnswer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(represent_webhook(_get_own(request, pk)))

    @describe("webhooks_delete", "Delete one of your webhooks.", status=204)
    def delete(self, request: Request, pk: int) -> HttpResponse:
        services.delete_webhook(_get_own(request, pk))
        return HttpResponse(status=204)


class WebhookTestView(_WebhookApiView):
    scopes = {"POST": WRITE}

    @describe(
        "webhooks_test",
        "Send a test request. `deliveries` shows its result.",
        WebhookDeliveryAnswer,
        status=202,
        request=EmptySerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        read_body(request, EmptySerializer)
        delivery = services.queue_test(_get_own(request, pk))
        headers = {"Location": request.path.removesuffix("test") + "deliveries"}
        return Response(represent_webhook_delivery(delivery), 202, headers=headers)


class WebhookEnableView(_WebhookApiView):
    scopes = {"POST": WRITE}

    @describe(
        "webhooks_enable",
        "Call a webhook again that was disabled or paused after failures.",
        WebhookAnswer,
        request=EmptySerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        read_body(request, EmptySerializer)
        services.enable_webhook(_get_own(request, pk))
        return Response(represent_webhook(_get_own(request, pk)))


class WebhookDeliveriesView(_WebhookApiView):
    scopes = {"GET": READ}
    parameters = PARAMETERS

    @describe(
        "webhooks_deliveries",
        "The last requests of a webhook, newest first, and what became of them.",
        page_of(WebhookDeliveryAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request, pk: int) -> Response:
        rows = _get_own(request, pk).deliveries.all()

        def represent(some: Any) -> list[dict[str, Any]]:
            return [represent_webhook_delivery(one) for one in some]

        return Response(make_page(request, rows, represent, newest_first=True))


def _get_own(request: Request, pk: int) -> Webhook:
    webhook = services.own_webhooks(get_user(request)).filter(pk=pk).first()
    if webhook is None:
        raise Http404
    return webhook
