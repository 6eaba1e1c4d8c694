#!/usr/bin/env bash
# Run by `make check`: style, types, import contracts, migrations, templates, tables.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
export DJANGO_SETTINGS_MODULE=adit.config.settings
data=$(mktemp -d)
export ADIT_DATA=$data
trap 'rm -rf "$data"' EXIT
failed=0

look() {
    local what=$1
    shift
    if output=$("$@" 2>&1); then
        echo "good  $what"
    else
        failed=1
        printf 'bad   %s\n%s\n' "$what" "$output"
    fi
}

look "style (ruff)" $bin/ruff check .
look "format (ruff)" $bin/ruff format --check --quiet .
look "types (mypy)" $bin/mypy adit_engine adit adit_sdk
look "import contracts" $bin/lint-imports
look "Django's own check" $bin/django-admin check
look "names" $bin/python scripts/check_names.py
look "migrations are complete" $bin/django-admin makemigrations --check --dry-run
look "templates compile" $bin/python scripts/compile_templates.py
look "tables are what the script makes" $bin/python scripts/build_tables.py --check
look "messages have templates" $bin/python scripts/messages.py
look "docs/conformance.md is what the script makes" $bin/python scripts/make_conformance.py --check
look "docs/deidentification.md is what is measured" $bin/python scripts/make_withheld.py --check
exit $failed
