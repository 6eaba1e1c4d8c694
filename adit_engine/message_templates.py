"""The templates of all messages of the engine: code -> sentence, one dictionary per package.

Sentences are plain English that a radiology coordinator understands: what happened, where, and the
next step. They never name a patient and end with a full stop, except clauses, which are values of
other messages (codes that start with "clause."). A template of a `NodeError` names {node}.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plural:
    """Two forms of one sentence; the value named `count` decides which one is used."""

    count: str
    singular: str
    plural: str


Template = str | Plural


def _(template: str) -> str:
    """Mark a template for translation: xgettext finds it by the name of this function."""
    return template


def ngettext(singular: str, plural: str, count: str) -> Plural:
    """Mark both forms for translation; `count` is the name of the value that decides."""
    return Plural(count, singular, plural)


_GENERAL: dict[str, Template] = {
    "text": "{text}",
    "patient-changed": _(
        "The source now lists the patient of this study under another ID than in the order, for "
        "example after a merge. The transfer stopped; a person must confirm that it is the same "
        "patient."
    ),
    "node-error.with-contact": _("{error} Contact: {contact}"),
}

_VALUES: dict[str, Template] = {}

_DICOM_FILE: dict[str, Template] = {}

_DICOM_UL: dict[str, Template] = {}

_NODES: dict[str, Template] = {}

_DICOMWEB: dict[str, Template] = {}

_DIAGNOSTICS: dict[str, Template] = {}

_STORAGE_SCP: dict[str, Template] = {}

_PSEUDONYMIZE: dict[str, Template] = {}

_VERIFY: dict[str, Template] = {}

_TRANSFER: dict[str, Template] = {}

_PATIENT_SEARCH: dict[str, Template] = {}

_CLI: dict[str, Template] = {}

TEMPLATES: Mapping[str, Template] = (
    _GENERAL
    | _VALUES
    | _DICOM_FILE
    | _DICOM_UL
    | _NODES
    | _DICOMWEB
    | _DIAGNOSTICS
    | _STORAGE_SCP
    | _PSEUDONYMIZE
    | _VERIFY
    | _TRANSFER
    | _PATIENT_SEARCH
    | _CLI
)
