"""Import a CSV file of patient IDs and pseudonyms. Used by the pages of projects."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO

from django.db import transaction

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.projects.pseudonyms import PseudonymConflict, find_pseudonym, get_or_create_pseudonym
from adit.projects.services import audit_subject, require_use
from adit_engine.csv_text import unescape_formulas
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message, join_messages

MAX_FILE_BYTES = 1 << 20
MAX_PAIRS = 2000
MAX_PROBLEMS = 50
MAX_ID_LENGTH = 64
PATIENT_ID, PSEUDONYM = "patient_id", "pseudonym"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class PseudonymPair:
    row: int
    patient_id: str = field(repr=False)
    pseudonym: str


class ImportRejected(InvalidInput):
    """Nothing was stored. `problems` name rows, never patient IDs."""

    def __init__(self, problems: Sequence[Message]) -> None:
        super().__init__("pseudonym-import.rejected", problems=join_messages(problems))
        self.problems = problems


def import_pairs(
    user: AnyUser, project: Project, node: Node, pairs: list[PseudonymPair]
) -> tuple[int, int]:
    """Register all pairs or none; return how many are new and how many were known.

    The patient IDs are those of `node`. Raises NotPermitted, and ImportRejected with a sentence for
    each row that is not accepted.
    """
    require(user, Right.CHOOSE_PSEUDONYMS)
    require_use(user, project)
    domain, new, problems = get_domain(node), 0, _find_repeated(pairs)
    with transaction.atomic():
        for pair in pairs:
            try:
                new += not find_pseudonym(project, domain, pair.patient_id)
                get_or_create_pseudonym(
                    project, domain, pair.patient_id, given=pair.pseudonym, user=user
                )
            except (PseudonymConflict, InvalidInput) as error:
                problems.append(_locate(pair.row, error.message))
        if problems:
            raise ImportRejected(_truncate_problems(problems))
        details = {"new": new, "known": len(pairs) - new, "domain": domain}
        record("pseudonyms.imported", user=user, about=audit_subject(project), details=details)
    return new, len(pairs) - new


def read_pairs(data: bytes) -> list[PseudonymPair]:
    """Read CSV in UTF-8 with a heading, separated by comma, semicolon or tab.

    Raises ImportRejected.
    """
    if len(data) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES >> 20
        raise ImportRejected([Message("pseudonym-import.too-large", limit=limit)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportRejected([Message("pseudonym-import.not-utf8")]) from None
    if "\0" in text:
        raise ImportRejected([Message("pseudonym-import.not-csv")])
    rows = _read_rows(text)
    heading = next(rows, (1, []))[1]
    places = _find_columns(heading)
    pairs, problems = [], []
    for number, cells in rows:
        if not any(cells):
            continue
        try:
            pairs.append(_make_pair(number, cells, places, len(heading)))
        except InvalidInput as error:
            problems.append(_locate(number, error.message))
        if len(pairs) > MAX_PAIRS:
            raise ImportRejected([Message("pseudonym-import.too-many-rows", limit=MAX_PAIRS)])
    if problems:
        raise ImportRejected(_truncate_problems(problems))
    if not pairs:
        raise ImportRejected([Message("pseudonym-import.no-rows")])
    return pairs


def _read_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line, as spreadsheets and editors count."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, [unescape_formulas(cell).strip() for cell in cells]
    except csv.Error:
        raise ImportRejected(
            [_locate(reader.line_num, Message("pseudonym-import.quotation-mark"))]
        ) from None


def _find_columns(heading: list[str]) -> Mapping[str, int]:
    names = [re.sub(r"[\s_-]+", "_", name.lower()) for name in heading]
    if sorted(names) != [PATIENT_ID, PSEUDONYM]:
        raise ImportRejected([_locate(1, Message("pseudonym-import.headers"))])
    return {name: names.index(name) for name in names}


def _make_pair(
    number: int, cells: list[str], places: Mapping[str, int], width: int
) -> PseudonymPair:
    if len(cells) != width:
        raise InvalidInput("pseudonym-import.cell-count", count=len(cells))
    patient_id, pseudonym = cells[places[PATIENT_ID]], cells[places[PSEUDONYM]]
    if not patient_id or not pseudonym:
        raise InvalidInput("pseudonym-import.empty-cell")
    if len(patient_id) > MAX_ID_LENGTH or _CONTROL.search(patient_id):
        raise InvalidInput("pseudonym-import.invalid-patient-id", limit=MAX_ID_LENGTH)
    return PseudonymPair(number, patient_id, pseudonym)


def _find_repeated(pairs: list[PseudonymPair]) -> list[Message]:
    """A repeated patient is a mistake in the list, even if both rows agree."""
    seen: dict[str, int] = {}
    problems = []
    for pair in pairs:
        first = seen.setdefault(pair.patient_id, pair.row)
        if first != pair.row:
            problems.append(_locate(pair.row, Message("pseudonym-import.repeated", first=first)))
    return problems


def _locate(row: int, problem: Message) -> Message:
    return Message("pseudonym-import.row", row=row, problem=problem)


def _truncate_problems(problems: list[Message]) -> list[Message]:
    more = len(problems) - MAX_PROBLEMS
    if more <= 0:
        return problems
    return [*problems[:MAX_PROBLEMS], Message("pseudonym-import.more", count=more)]
