#!/usr/bin/env bash
# Create a virtual environment from a pinned requirement file, with ADIT installed in editable mode.
# usage: environment.sh PYTHON FOLDER REQUIREMENTS
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 folder=$2 requirements=$3

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "ADIT needs Python 3.11 or newer; $("$python" --version) was found. Name another one: make PYTHON=python3.12 …" >&2
    exit 1
}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder" || {
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    rm -rf "$folder"
    echo "Python's venv module is missing. On Debian: apt install python$version-venv" >&2
    exit 1
}
echo "Preparing $folder (the first time takes a few minutes) …" >&2
pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }
pip install --require-hashes -r "$requirements"
pip install --no-deps --no-build-isolation --editable .
touch "$folder/.ready"
