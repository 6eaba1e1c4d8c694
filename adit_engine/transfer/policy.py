"""Decide which instances of one study may leave, and change them as the profile requires.

Created by `transfer.study` and used by `transfer.series`. All series of one study share one
TransferPolicy.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adit_engine.bounded_stream import Stop
from adit_engine.errors import InstanceWithheld, PatientChanged, RuleViolation
from adit_engine.messages import Message
from adit_engine.pseudonymize.charset import Charset
from adit_engine.pseudonymize.parameters import AsIs, Change
from adit_engine.transfer.iocm import Rejections
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import ElementChanges
from adit_engine.values.references import InstanceRef

if TYPE_CHECKING:
    from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer


PREFETCH_BYTES = 16 * 1024 * 1024


@dataclass
class TransferPolicy:
    """Decides for each instance of a study whether it may leave, and changes it."""

    patient_id: str = field(repr=False)
    """The patient ID under which the source lists the study."""
    change: Change
    stop: Stop
    rejections: Rejections
    patient_ids: Collection[str] = field(default=(), repr=False)
    """Patient IDs accepted in images; empty: any, as long as it is one and the same."""
    prefetch_bytes: int = PREFETCH_BYTES
    """Maximum lead of the source over the destination, so that both work at the same time."""

    def __post_init__(self) -> None:
        self._rules = _make_pseudonymizer(self.change)
        self._ids = {known: one for one in self.patient_ids for known in _encode_patient_id(one)}
        self._first: str | bytes | None = None
        self._series_of: dict[str, str] = {}
        self.changed: PatientChanged | None = None
        """Set when an image has another patient ID than ordered; it is then raised for every image.
        """

    def admit_patient(self, patient_id: bytes, character_set: bytes = b"") -> None:
        """Accept the patient of an image. Both values are the raw values of the image.

        Raises PatientChanged for all images if the patient is not the ordered one, RuleViolation
        for images of a second patient.
        """
        who = self._ids.get(patient_id, patient_id)
        if who is patient_id and not _is_ascii(patient_id):
            who = self._known_text(patient_id, character_set) or patient_id
        if self._first is None:
            self._first = who
            if self._ids and isinstance(who, bytes):
                self.changed = PatientChanged(_decode_patient_id(patient_id))
        if who != self._first:
            raise RuleViolation("study.second-patient")
        if self.changed is not None:
            raise self.changed

    def claim(self, ref: InstanceRef) -> None:
        """Reserve the instance UID for its series.

        Raises InstanceWithheld if an image of another series came under the same UID before. Most
        archives identify an image by its instance UID alone: of two they would keep the later one.
        """
        if self._series_of.setdefault(ref.instance_uid, ref.series_uid) != ref.series_uid:
            raise InstanceWithheld("uid-repeated")

    def _known_text(self, patient_id: bytes, character_set: bytes) -> str | None:
        """Return the ordered ID that equals these bytes, decoded with the image's character set."""
        text = Charset(character_set).decode(patient_id) or ""
        return self._ids.get(text.encode()) if text else None

    def prepare_outgoing(self, instance: Instance) -> tuple[Instance, ElementChanges | None]:
        """Return the instance as it may leave, and what was changed; None: unchanged.

        Raises InstanceWithheld, and VerificationFailed after the second check.
        """
        if self._rules is None:
            return instance, None
        return self._rules.prepare_outgoing(instance)

    def find_ruled_device(self, instance: Instance) -> ImagingDevice | None:
        """Return the device of an image that a pixel rule covers, else None."""
        return None if self._rules is None else self._rules.find_ruled_device(instance)

    def explain_refusal(self, sop_class_uid: str) -> Message | None:
        """Return the reason if all objects of this class will be withheld."""
        if self._rules is None or not sop_class_uid:
            return None
        return self._rules.explain_refusal(sop_class_uid)


def _encode_patient_id(patient_id: str) -> tuple[bytes, bytes]:
    """Return the ID in the encodings that headers may use."""
    bare = patient_id.strip(" \0")
    return bare.encode(), bare.encode("latin-1", "replace")


def _is_ascii(patient_id: bytes) -> bool:
    """Return whether the bytes mean the same in all character sets."""
    return patient_id.isascii() and b"\x1b" not in patient_id


def _decode_patient_id(patient_id: bytes) -> str:
    try:
        return patient_id.decode()
    except UnicodeDecodeError:
        return patient_id.decode("latin-1")


def _make_pseudonymizer(change: Change) -> "InstancePseudonymizer | None":
    if isinstance(change, AsIs):
        return None
    # Slow to import, and not needed for identified data.
    from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer

    return InstancePseudonymizer(change)
