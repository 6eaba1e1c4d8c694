#!/usr/bin/env bash
# Run by `make test`: install the system packages, then run the three levels of tests.
set -uo pipefail
cd "$(dirname "$0")/.."
unset DJANGO_SETTINGS_MODULE ADIT_DATA DATABASE_URL DATABASE_URL_FILE PORT
# Tests start hundreds of processes, which load our modules faster if they are compiled once.
unset PYTHONDONTWRITEBYTECODE

# A program or file that shows that it is installed, and its Debian package.
declare -A needs=(
    [Orthanc]=orthanc [storescu]=dcmtk [dciodvfy]=dicom3tools [chromium]=chromium [7z]=7zip
    [/usr/share/orthanc/plugins/libOrthancDicomWeb.so]=orthanc-dicomweb
    [/usr/lib/postgresql/*/bin/postgres]=postgresql
    [rabbitmq-server]=rabbitmq-server [redis-server]=redis-server
    [docker-compose]=docker-compose [systemd-analyze]=systemd
    [sqlite3]=sqlite3 [nginx]=nginx-light
    [/usr/sbin/slapd]=slapd [ldapmodify]=ldap-utils
    [tesseract]=tesseract-ocr
    [/usr/share/tesseract-ocr/*/tessdata/kor.traineddata]=tesseract-ocr-kor
    [/usr/share/tesseract-ocr/*/tessdata/jpn.traineddata]=tesseract-ocr-jpn
    [/usr/share/tesseract-ocr/*/tessdata/rus.traineddata]=tesseract-ocr-rus
    [/usr/share/tesseract-ocr/*/tessdata/heb.traineddata]=tesseract-ocr-heb
    [/usr/include/ldap.h]=libldap-dev [/usr/include/sasl/sasl.h]=libsasl2-dev
)
missing=()
for sign in "${!needs[@]}"; do
    command -v "$sign" >/dev/null || compgen -G "$sign" >/dev/null || missing+=("${needs[$sign]}")
done

# Tests start their own services: those of the packages must not start, now or at the next boot.
install() {
    local policy=/usr/sbin/policy-rc.d status
    [ -e $policy ] && policy= || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy; }
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    status=$?
    [ -z "$policy" ] || rm -f "$policy"
    if command -v systemctl >/dev/null; then
        for package in "$@"; do
            systemctl --quiet disable "$package.service" 2>/dev/null
        done
    fi
    return $status
}
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing ${missing[*]} …"
        install "${missing[@]}" || echo "Some could not be installed: tests that need them are skipped."
    else
        echo "Some tests will be skipped. To run them: apt install ${missing[*]}"
    fi
fi

# python-ldap is compiled, so it is not part of the development environment.
.venv/bin/python -c "import ldap" 2>/dev/null ||
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ldap.txt ||
    echo "python-ldap could not be installed: tests that need it are skipped."

failed=0
run_tests() {
    echo "== $1"
    shift
    "$@" || failed=1
}
run_tests "engine, without Django" .venv-engine/bin/python -m pytest tests/engine -q -n 3 --dist worksteal
run_tests "text detection" .venv-ocr/bin/python -m pytest tests/engine/pseudonymize/text_detection -q -n 2 \
    --dist worksteal
run_tests "Django project" .venv/bin/python -m pytest tests/adit -q -n 3 --dist worksteal
# Again on PostgreSQL: what depends on locks, on constraints and on wake-up messages. Of pages and
# rights, which are the same on each database, all addresses, and all answers to one role. Killed
# processes are part of the whole system on PostgreSQL.
# A full disk may stop the whole PostgreSQL server, so this test has a server of its own.
full_disk=tests/adit/jobs/misfortune/test_misfortune.py::test_a_job_completes_after_a_full_database_disk_has_space_again
run_tests "Django project on PostgreSQL" .venv/bin/python tests/lab/on_postgresql.py \
    tests/adit/{audit,blocklist,consent,jobs,orders,projects,recall,vault,webhooks,worker} \
    tests/adit/nodes/{limits,receiving} tests/adit/administration/test_users.py \
    tests/adit/test_input_fuzz.py::test_each_address_answers_each_method_with_a_page_or_a_redirect \
    "tests/adit/test_permission_matrix.py::test_each_role_gets_the_answers_in_the_table[coord]" \
    -q -n 2 --dist worksteal --ignore tests/adit/jobs/running --deselect $full_disk \
    --ignore-glob='*/test_'{breaker,crash,disclosure,week}.py \
    --ignore-glob '*_pages.py' --ignore-glob '*/test_job_permissions.py' \
    --ignore-glob '*/test_project_rights.py'
run_tests "the same, on a full disk" .venv/bin/python tests/lab/on_postgresql.py $full_disk -q
run_tests "upgrade from earlier releases" .venv/bin/python -m pytest tests/upgrade -q -n 2
run_tests "usefulness, read by highdicom" \
    .venv/bin/python -m pytest tests/engine/pseudonymize/test_deid_highdicom.py -q
run_tests "whole system" .venv/bin/python -m pytest tests/system -q -m "not chaos" -n 2 --dist loadfile \
    --no-loadscope-reorder
exit $failed
