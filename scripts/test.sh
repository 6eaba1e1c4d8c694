#!/usr/bin/env bash
# What `make test` does: the system packages, then the three storeys of tests.
set -uo pipefail
cd "$(dirname "$0")/.."
unset DJANGO_SETTINGS_MODULE ADIT_DATA DATABASE_URL PORT

declare -A needs=(
    [Orthanc]=orthanc [storescu]=dcmtk [dciodvfy]=dicom3tools [chromium]=chromium
)
missing=()
for program in "${!needs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing ${missing[*]} …"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || true
    else
        echo "Some tests will be skipped. To run them: apt install ${missing[*]}"
    fi
fi

failed=0
storey() {
    echo "== $1"
    shift
    "$@" || failed=1
}
storey "the engine, without Django" .venv-engine/bin/python -m pytest tests/engine -q -n 2
storey "the house" .venv/bin/python -m pytest tests/adit -q -n 2
storey "usefulness, read by highdicom" \
    .venv/bin/python -m pytest tests/engine/pseudonymize/test_deid_highdicom.py -q
storey "the whole road" .venv/bin/python -m pytest tests/system -q
exit $failed
