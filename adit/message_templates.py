"""The templates of all messages of the project: code -> sentence, one dictionary per app.

The rules are those of adit_engine/message_templates.py.
"""

from collections.abc import Mapping

from adit_engine.message_templates import Template

_VAULT: dict[str, Template] = {}

_ACCOUNTS: dict[str, Template] = {}

_NODES: dict[str, Template] = {}

_CALENDAR: dict[str, Template] = {}

_RECEIVING: dict[str, Template] = {}

_PROJECTS: dict[str, Template] = {}

_SPREADSHEETS: dict[str, Template] = {}

_JOBS: dict[str, Template] = {}

_KINDS: dict[str, Template] = {}

_RESULTS: dict[str, Template] = {}

_REVIEW: dict[str, Template] = {}

_ORDERS: dict[str, Template] = {}

_WORKER: dict[str, Template] = {}

_INSTALLATION: dict[str, Template] = {}

TEMPLATES: Mapping[str, Template] = (
    _VAULT
    | _ACCOUNTS
    | _NODES
    | _CALENDAR
    | _RECEIVING
    | _PROJECTS
    | _SPREADSHEETS
    | _JOBS
    | _KINDS
    | _RESULTS
    | _REVIEW
    | _ORDERS
    | _WORKER
    | _INSTALLATION
)
