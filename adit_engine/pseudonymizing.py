"""Pseudonymizing: the rules that an image goes through before it leaves, and the second look at it."""

import os
import sys
from importlib import import_module
from threading import Thread

from adit_engine.errors import Hit, Withhold
from adit_engine.instance import Instance
from adit_engine.pseudonymize import admit
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.change import Pseudonymized
from adit_engine.pseudonymize.memory import Memory
from adit_engine.pseudonymize.tally import Tally
from adit_engine.pseudonymize.verify import Verifier
from adit_engine.treatment import Treatment


class Pseudonymizing:
    """Of one trial's rules for one patient."""

    def __init__(self, change: Pseudonymized) -> None:
        self._change = change
        self._memory = Memory(change)
        self._look = Verifier(change).check
        # The look at pixels needs it. It is loaded while the source thinks about its first answer.
        if "numpy" not in sys.modules:
            Thread(target=_load_numpy, name="load numpy", daemon=True).start()

    def outgoing(self, instance: Instance) -> tuple[Instance, Treatment | None]:
        """The instance as it may leave, and what was done to it.

        Raises Withhold, and Hit after the second look.
        """
        tally = Tally()
        changed = apply(self._change, instance, tally, self._memory)
        try:
            self._look(instance, changed)
        except Withhold as hit:
            raise Hit(hit.code, hit.reason) from None
        return changed, next(iter(tally.treatments), None)

    def why_refused(self, sop_class_uid: str) -> tuple[str, str] | None:
        """Code and sentence when objects of this class are withheld whatever they hold."""
        return admit.why_not(sop_class_uid, self._change.profile)


def _load_numpy() -> None:
    """Without threads for linear algebra, of which there is none here: they wait by running."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import_module("numpy")
