"""Tables of nodes, of their open connections, and of rejected senders."""

from typing import Any

from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from django_tables2 import Column, TemplateColumn

from adit.nodes.models import UnexpectedSender
from adit.nodes.presentation import NodeOverview
from adit.nodes.receiving.quarantine import RejectedSender
from adit.nodes.usage.open_connections import OpenConnection
from adit.tables import (
    NO_WRAP,
    NONE,
    NUMBER,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    LocalDateTimeColumn,
    NumberColumn,
    Table,
    muted,
    name_and_note,
    state_badge,
)


class NodeTable(Table):
    label = _lazy("PACS and folders")
    name = Column(
        _lazy("Name"),
        accessor="node__name",
        attrs=ROW_HEADER,
        orderable=True,
        linkify=lambda record: reverse("node", args=[record.node.pk]),
    )
    kind = TemplateColumn(
        verbose_name=_lazy("Kind"),
        template_name="nodes/_kind_cell.html",
        attrs=NO_WRAP,
        orderable=True,
    )
    state = ComputedColumn(_lazy("State"), order_by=("status__word", "node__name"), orderable=True)
    use = ComputedColumn(_lazy("You may"))
    connections = ComputedColumn(_lazy("Connections in use"), attrs=NUMBER)
    test = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="nodes/_test_cell.html", attrs=NUMBER
    )

    def render_state(self, record: NodeOverview) -> str:
        status = record.status
        why = format_html('<p class="cell-why">{}</p>', status.reason) if status.reason else ""
        return format_html("{}{}", state_badge(status.state, status.label), why)

    def render_use(self, record: NodeOverview) -> str:
        if record.may_read and record.may_write:
            return _("fetch from, send to")
        if record.may_read:
            return _("fetch from")
        return _("send to") if record.may_write else muted(_("only manage"))

    def render_connections(self, record: NodeOverview) -> str:
        node = record.node
        return format_html(
            "{} {}<br>{} {}",
            _("%(n)d of %(of)d") % {"n": record.transfers, "of": node.retrieve_limit},
            muted(_("transfers")),
            _("%(n)d of %(of)d") % {"n": record.searches, "of": node.search_limit},
            muted(_("searches")),
        )


class ConnectionTable(Table):
    """The connections to one node that are open now."""

    label = _lazy("Table of open connections")
    purpose = TemplateColumn(
        verbose_name=_lazy("Purpose"),
        template_name="nodes/_connection_cell.html",
        attrs=ROW_HEADER,
    )
    user_name = Column(_lazy("User"))
    since = ComputedColumn(_lazy("Since"), attrs=NO_WRAP)
    images = NumberColumn(_lazy("Transferred"))
    end = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="nodes/_end_cell.html", attrs=NUMBER
    )

    def render_since(self, record: OpenConnection) -> str:
        return f"{timezone.localtime(record.since):%H:%M}"

    def render_images(self, record: OpenConnection) -> str:
        if not record.images:
            return NONE
        images = ngettext("%(n)d image", "%(n)d images", record.images) % {"n": record.images}
        rate = _("%(rate)s per second") % {"rate": filesizeformat(record.bytes_per_s)}
        return name_and_note(images, f"{filesizeformat(record.size_bytes)}, {rate}")


class RejectedSenderTable(Table):
    label = _lazy("Rejected connections and refused images")
    last_at = LocalDateTimeColumn(_lazy("Last"), accessor="row__last_at", orderable=True)
    sender = ComputedColumn(
        _lazy("Sender"),
        attrs=ROW_HEADER,
        order_by=("row__calling", "row__address"),
        orderable=True,
    )
    kind = ComputedColumn(_lazy("Event"))
    count = NumberColumn(_lazy("Number"), accessor="row__count", orderable=True)
    size = NumberColumn(_lazy("Size"), accessor="row__size_bytes", orderable=True)
    advice = TemplateColumn(
        verbose_name=_lazy("What to do"), template_name="nodes/_rejected_cell.html"
    )

    def render_sender(self, record: RejectedSender) -> str:
        return name_and_note(record.row.calling or NONE, record.row.address)

    def render_kind(self, record: RejectedSender) -> str:
        if record.row.disposition == UnexpectedSender.Fate.REJECTED:
            called = _("called AE title: %(name)s") % {"name": record.row.called or NONE}
            return name_and_note(_("Connection rejected"), called)
        return name_and_note(_("Image refused"), record.kind)

    def render_size(self, value: Any) -> str:
        return filesizeformat(value) if value else NONE
