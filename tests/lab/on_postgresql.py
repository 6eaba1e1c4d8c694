"""Run tests against a private PostgreSQL server: `on_postgresql.py PYTEST…`."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab import services


def main(arguments: list[str]) -> int:
    if services.postgresql_folder() is None:
        print("skipped: needs PostgreSQL: apt install postgresql")
        return 0
    with services.postgresql() as base:
        env = {**os.environ, "ADIT_TEST_DATABASE": base.url}
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
