"""The bodies of API requests: their fields, and what is valid. Used by the views and the schema."""

from collections.abc import Mapping
from typing import Any, cast

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from adit.consent.changes import MAX_MODALITIES_LENGTH
from adit.jobs.actions import MAX_REASON_LENGTH
from adit.jobs.kinds.base import OrderedChange, Pseudonymize, SendAsIs
from adit.jobs.kinds.selective import MAX_STUDIES
from adit.webhooks.http import MAX_URL_LENGTH
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import MAX_NAME_LENGTH
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

MAX_NODES = 5
MAX_QUERY_KEYS = 40
MAX_SERIES_PER_STUDY = 5000
PSEUDONYMIZE = "pseudonymize"


class StrictSerializer(serializers.Serializer):
    """Refuses unknown fields: one that is mistyped, such as `pseudonim`, must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = {
                str(name)[:40]: [str(Message("api.unknown-field"))]
                for name in data
                if name not in self.fields
            }
            if unknown:
                raise serializers.ValidationError(unknown)
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """Text, and no number that is turned into text."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class SwitchField(serializers.BooleanField):
    """true or false, and no text such as "no"."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=str(data)[:40])
        return data


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer"},
            {"type": "string", "minLength": 1, "maxLength": 64},
        ],
        "description": "ID, name or AE title of a PACS or folder.",
    }
)
class NodeField(serializers.Field):
    """A PACS or folder by its ID, its name or its AE title."""

    def to_internal_value(self, data: Any) -> int | str:
        is_name = isinstance(data, str) and 0 < len(data) <= 64
        if isinstance(data, bool) or not (isinstance(data, int) or is_name):
            raise serializers.ValidationError(str(Message("api.node-by-id-or-name")))
        return cast("int | str", data)

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": [PSEUDONYMIZE]},
            {
                "type": "object",
                "properties": {"as_is": {"type": "string", "description": "The reason."}},
                "required": ["as_is"],
                "additionalProperties": False,
            },
        ]
    }
)
class ChangeField(serializers.Field):
    """ "pseudonymize", or {"as_is": reason}."""

    def to_internal_value(self, data: Any) -> OrderedChange:
        if data == PSEUDONYMIZE:
            return Pseudonymize()
        if isinstance(data, Mapping) and set(data) == {"as_is"} and isinstance(data["as_is"], str):
            try:
                return SendAsIs(data["as_is"])
            except InvalidInput as error:
                raise serializers.ValidationError(str(error)) from None
        raise serializers.ValidationError(str(Message("api.change")))

    def to_representation(self, value: Any) -> Any:
        return {"as_is": value.reason} if isinstance(value, SendAsIs) else PSEUDONYMIZE


class SearchSerializer(StrictSerializer):
    node = NodeField()
    level = serializers.ChoiceField(choices=["study", "series", "instance"], default="study")
    query = serializers.DictField(child=serializers.JSONField(), default=dict)
    limit = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    purpose = TextField(max_length=100, default="", allow_blank=True)


class StudySerializer(StrictSerializer):
    node = NodeField()
    study_uid = TextField(max_length=64)
    patient_id = TextField(max_length=64, default="", allow_blank=True, trim_whitespace=False)
    series_uids = serializers.ListField(
        child=TextField(max_length=64), max_length=MAX_SERIES_PER_STUDY, default=list
    )
    pseudonym = TextField(max_length=64, default="", allow_blank=True)


class OrderSerializer(StrictSerializer):
    """Fields of all orders."""

    kind = TextField(max_length=32)
    project = TextField(max_length=64, allow_null=True, allow_blank=True, default="")
    title = TextField(max_length=100, default="", allow_blank=True)


class TransferSerializer(OrderSerializer):
    """Fields of all orders that send images."""

    destination = NodeField()
    change = ChangeField(default=Pseudonymize())
    urgent = SwitchField(default=False)
    mail = SwitchField(default=False)
    archive_password = TextField(
        max_length=200, default="", allow_blank=True, trim_whitespace=False, write_only=True
    )


class SelectiveSerializer(TransferSerializer):
    studies = serializers.ListField(
        child=StudySerializer(), allow_empty=False, max_length=MAX_STUDIES
    )
    preview = TextField(max_length=32, default="", allow_blank=True)


class BatchQuerySerializer(OrderSerializer):
    nodes = serializers.ListField(child=NodeField(), allow_empty=False, max_length=MAX_NODES)
    destination = NodeField(required=False)
    skip_errors = SwitchField(default=False)
    start = serializers.ChoiceField(
        choices=["by_hand", "if_all_found", "always"], required=False, help_text="Ignored."
    )


class BatchTransferSerializer(TransferSerializer):
    nodes = serializers.ListField(child=NodeField(), allow_empty=False, max_length=MAX_NODES)
    start = serializers.ChoiceField(
        choices=["by_hand", "if_all_found", "always"], default="by_hand"
    )
    pilot = serializers.IntegerField(min_value=0, max_value=10_000, default=0)
    generate = SwitchField(default=True)
    skip_delivered = SwitchField(default=True)
    skip_errors = SwitchField(default=False)


class ActionSerializer(StrictSerializer):
    reason = TextField(max_length=MAX_REASON_LENGTH, default="", allow_blank=True)
    archive_password = TextField(
        max_length=200, default="", allow_blank=True, trim_whitespace=False, write_only=True
    )


class StartSerializer(StrictSerializer):
    """The start of a checked batch transfer."""

    choices = serializers.DictField(
        child=serializers.IntegerField(min_value=0, max_value=1000), default=dict
    )
    leave_out = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=20_000),
        max_length=10_000,
        default=list,
    )
    pilot = serializers.IntegerField(min_value=0, max_value=10_000, default=0)


class PatientSerializer(StrictSerializer):
    node = NodeField()
    patient_id = TextField(max_length=64, trim_whitespace=False)


class ReidentificationSerializer(StrictSerializer):
    pseudonym = TextField(max_length=64)
    reason = TextField(max_length=MAX_REASON_LENGTH)


class ReasonSerializer(StrictSerializer):
    reason = TextField(max_length=MAX_REASON_LENGTH)


class ConsentSerializer(PatientSerializer):
    modalities = TextField(
        max_length=MAX_MODALITIES_LENGTH,
        default="",
        allow_blank=True,
        help_text="Such as CT, MR. Empty: all modalities of the project.",
    )
    valid_until = serializers.DateField(
        default=None, allow_null=True, help_text="The last day. Without it: no limit."
    )
    reason = TextField(max_length=MAX_REASON_LENGTH)


class WithdrawalSerializer(PatientSerializer):
    withdrawn_on = serializers.DateField(help_text="Not in the future.")
    reason = TextField(max_length=MAX_REASON_LENGTH)


class WebhookSerializer(StrictSerializer):
    name = TextField(max_length=MAX_NAME_LENGTH)
    url = TextField(max_length=MAX_URL_LENGTH)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=WebhookEvent.values),
        allow_empty=False,
        max_length=len(WebhookEvent),
    )
    project = TextField(
        max_length=64,
        allow_null=True,
        allow_blank=True,
        default="",
        help_text="The protocol ID of a project whose jobs are reported. Without it: your own jobs.",
    )


class EmptySerializer(StrictSerializer):
    """A body without fields."""
