"""Storage Commitment of the test PACS, with faults (PS3.4 Annex J).

New associations use pynetdicom, so that an independent implementation proposes the roles.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid
from pynetdicom import build_context, build_role

from adit_engine.dicom_ul.command_set import RESPONSE_BIT, CommandField, FieldValue, Operation
from adit_engine.values.instance import IMPLICIT_LE
from lab.association import Association, Message
from lab.lies import Kind, Part
from lab.scu import associate

if TYPE_CHECKING:
    from lab.archive import Lying

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
NO_SUCH_INSTANCE = 0x0112
_RESOURCES = 0x0213

Images = Sequence[tuple[str, str]]


def pledge(archive: "Lying", association: Association, message: Message) -> None:
    """Respond to one request and report; to a known peer on a new association."""
    syntax = association.contexts[message.context_id].syntaxes[0]
    asked = read_dataset(BytesIO(bytes(message.data or b"")), syntax == IMPLICIT_LE, True)
    assert message.command.text(CommandField.REQUESTED_INSTANCE) == INSTANCE
    report = _report(archive, asked)
    if archive.tells(Kind.EXHAUSTED, on=Part.COMMIT):
        _agree(archive, association, message, _RESOURCES)
        return
    address = archive.site.peers.get(association.proposal.calling)
    if archive.tells(Kind.EARLY, on=Part.COMMIT):
        _here(archive, association, message.context_id, report)
        _agree(archive, association, message)
        return
    _agree(archive, association, message)
    if archive.tells(Kind.NOTHING, on=Part.COMMIT):
        return
    times = 2 if archive.tells(Kind.TWICE, on=Part.COMMIT) else 1
    if address is None:
        for _ in range(times):
            _here(archive, association, message.context_id, report)
    else:
        archive.begin(_there, archive, association.proposal.calling, address, report, times)


def _agree(archive: "Lying", association: Association, message: Message, status: int = 0) -> None:
    answer: dict[CommandField, FieldValue] = {
        CommandField.CLASS_UID: COMMITMENT,
        CommandField.OPERATION: Operation.ACTION | RESPONSE_BIT,
        CommandField.ANSWERS_TO: message.id,
        CommandField.STATUS: status,
        CommandField.INSTANCE_UID: INSTANCE,
    }
    archive.say(association, Part.COMMIT, lambda: association.send(message.context_id, answer))


def _report(archive: "Lying", asked: Dataset) -> Dataset:
    """Return the report on stored images with the faults applied."""
    held = {one.uid for study in archive.site.index.studies.values() for one in study.instances()}
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    if archive.tells(Kind.TWIN, on=Part.COMMIT):
        report.TransactionUID = generate_uid()
    vouches = archive.tells(Kind.VOUCH, on=Part.COMMIT) is not None
    kept, failed = _boasts(archive), []
    for at, one in enumerate(asked.ReferencedSOPSequence):
        is_kept = vouches or one.ReferencedSOPInstanceUID in held
        reason = 0 if is_kept else NO_SUCH_INSTANCE
        disowned = archive.tells(Kind.ADMIT, at, Part.COMMIT) is not None
        if archive.tells(Kind.OMIT, at, Part.COMMIT):
            continue
        if archive.tells(Kind.FOREIGN, at, Part.COMMIT):
            one.ReferencedSOPInstanceUID = generate_uid()
        if reason or disowned:
            one.FailureReason = reason or NO_SUCH_INSTANCE
            failed.append(one)
        else:
            kept.append(one)
    if kept:
        report.ReferencedSOPSequence = kept
    if failed:
        report.FailedSOPSequence = failed
    return report


def _boasts(archive: "Lying") -> list[Dataset]:
    if not archive.tells(Kind.BOAST, on=Part.COMMIT):
        return []
    made = Dataset()
    made.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.ReferencedSOPInstanceUID = generate_uid()
    return [made]


def _event(report: Dataset) -> int:
    return 2 if "FailedSOPSequence" in report else 1


def _here(archive: "Lying", association: Association, context_id: int, report: Dataset) -> None:
    """Send the report on the association of the request."""
    implicit = association.contexts[context_id].syntaxes[0] == IMPLICIT_LE
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = True, implicit
    write_dataset(target, report)
    command: dict[CommandField, FieldValue] = {
        CommandField.CLASS_UID: COMMITMENT,
        CommandField.OPERATION: Operation.EVENT_REPORT,
        CommandField.MESSAGE_ID: 7,
        CommandField.INSTANCE_UID: INSTANCE,
        CommandField.EVENT_TYPE: _event(report),
    }
    association.send(context_id, command, [target.getvalue()])
    answer = association.receive()
    if answer is not None:
        assert answer.operation == Operation.EVENT_REPORT | RESPONSE_BIT
        archive.log.reports.append(answer.command.number(CommandField.STATUS))


def _there(
    archive: "Lying", called: str, address: tuple[str, int], report: Dataset, times: int
) -> None:
    """Send the report on a new association, as SCP."""
    try:
        # pynetdicom leaks a socket if the connection is refused.
        socket.create_connection(address, 30).close()
    except OSError:
        archive.log.reports.append(None)
        return
    stranger = archive.tells(Kind.OTHER_TITLE, on=Part.COMMIT)
    calling = "STRANGER" if stranger else archive.site.ae_title
    role = build_role(COMMITMENT, scp_role=True)
    opened = associate(address, called, [build_context(COMMITMENT)], [role], calling=calling)
    if not opened.is_established:
        archive.log.reports.append(None)
        return
    try:
        assert opened.accepted_contexts[0].as_scp
        for _ in range(times):
            with suppress(RuntimeError):
                status, _reply = opened.send_n_event_report(
                    report, _event(report), COMMITMENT, INSTANCE
                )
                archive.log.reports.append(status.Status if "Status" in status else None)
    finally:
        opened.release()
