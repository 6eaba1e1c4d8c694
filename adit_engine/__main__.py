"""Entry point of the command adit-engine, optimized for a fast start and end."""

import gc
import os
import sys
import warnings


def run() -> None:
    """Run the command and end the process.

    Uses os._exit, because freeing all objects costs time.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # warnings of libraries may quote values of patients
    gc.disable()  # modules that are being loaded produce no garbage
    from adit_engine.cli.main import main

    gc.freeze()
    gc.enable()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
