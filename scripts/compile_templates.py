"""Compile every template of the project to find syntax errors. Used by `make check`."""

import sys
from pathlib import Path

import django
from django.template.loader import get_template

PACKAGE = Path(__file__).resolve().parent.parent / "adit"


def main() -> int:
    django.setup()
    count = 0
    for folder in sorted(PACKAGE.glob("*/templates")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".html", ".txt"):
                get_template(str(path.relative_to(folder)))
                count += 1
    print(f"{count} templates")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
