#!/usr/bin/env bash
# Pin and hash the dependencies of pyproject.toml: one file per kind of installation.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --custom-compile-command "make lock" "$@"
}
compile pyproject.toml -o requirements/engine.txt "$@"
compile pyproject.toml --group engine-test -o requirements/engine-test.txt "$@"
compile pyproject.toml --extra server -o requirements/server.txt "$@"
compile pyproject.toml --extra distributed -o requirements/distributed.txt "$@"
compile pyproject.toml --extra distributed --extra ldap -o requirements/ldap.txt "$@"
compile pyproject.toml --extra ocr --group engine-test -o requirements/ocr.txt "$@"
compile pyproject.toml --extra distributed --group dev -o requirements/dev.txt "$@"
