"""Pseudonymize the images of one patient and verify them. Used by `adit_engine.transfer`."""

import os
import sys
from importlib import import_module
from threading import Thread

from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.errors import InstanceWithheld, VerificationFailed
from adit_engine.messages import Message
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.rewrite import ElementCache
from adit_engine.pseudonymize.statistics import ChangeStatistics
from adit_engine.pseudonymize.text_detection.inspection import PixelInspector
from adit_engine.pseudonymize.verify.verifier import Verifier
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import ElementChanges


class InstancePseudonymizer:
    """Changes the images of one patient by the rules of one project, and verifies them."""

    def __init__(self, change: Pseudonymization) -> None:
        self._change = change
        self._cache = ElementCache(change)
        self._inspector = PixelInspector()
        self._verifier = Verifier(change).check
        # The check of pixels needs numpy. It is loaded while the source prepares its first answer.
        if "numpy" not in sys.modules:
            Thread(target=_load_numpy, name="load numpy", daemon=True).start()

    def prepare_outgoing(self, instance: Instance) -> tuple[Instance, ElementChanges | None]:
        """Return the instance as it may leave, and what was changed.

        Raises InstanceWithheld, and VerificationFailed after the second check.
        """
        tally = ChangeStatistics()
        changed = apply(self._change, instance, tally, self._cache, self._inspector)
        try:
            self._verifier(instance, changed)
        except InstanceWithheld as hit:
            raise VerificationFailed(hit.message.code, **hit.message.values) from None
        return changed, next(iter(tally.changes), None)

    def find_ruled_device(self, instance: Instance) -> ImagingDevice | None:
        """Return the device of an image that a pixel rule of the profile covers, else None."""
        rules = self._change.profile.pixel_rules
        sop_class = instance.sop_class_uid.strip(" \0")
        if not any(rule.sop_class == sop_class for rule in rules):
            return None
        device = ImagingDevice.from_instance(to_little_endian(instance))
        return device if any(rule.covers(device) for rule in rules) else None

    def explain_refusal(self, sop_class_uid: str) -> Message | None:
        """Return the reason if all objects of this class are withheld."""
        return admission.sop_class_refusal(sop_class_uid, self._change.profile)


def _load_numpy() -> None:
    """Import numpy without linear algebra threads: they are not used here, and busy-wait."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import_module("numpy")
