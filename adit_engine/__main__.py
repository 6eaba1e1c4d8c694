"""Start: the command adit-engine, begun and ended without delay."""

import gc
import os
import sys
import warnings


def run() -> None:
    """Ends the process itself: all is closed by then, and to take all objects apart costs time."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries quote values of patients in theirs
    gc.disable()  # nothing becomes garbage while modules are loaded
    from adit_engine.cli.main import main

    gc.freeze()
    gc.enable()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
