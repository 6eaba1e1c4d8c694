"""Broken sheets: error messages with file, line and column; time and memory limits."""

import io
import re
import subprocess
import sys

import pytest
from django.db import connection
from lab.broken_sheets import FILES, ROWS, Broken, complaints

from adit.spreadsheets import limits
from adit.spreadsheets.reader import read_sheet
from adit.spreadsheets.table import UnreadableSheet
from adit_engine.messages import Message

MEASURE = """
import resource, subprocess, sys
reader = [sys.executable, "-I", "-m", "adit.spreadsheets.subprocess_reader", sys.argv[1]]
quiet = subprocess.DEVNULL
subprocess.run(reader, stdin=sys.stdin.buffer, stdout=quiet, stderr=quiet)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""
"""Run as a separate process: on Linux a child starts with the peak memory of its parent."""


def test_the_suite_covers_more_than_forty_kinds_of_broken_sheets() -> None:
    assert len({broken.what for broken in FILES + ROWS}) > 40


@pytest.mark.parametrize("broken", FILES + ROWS, ids=str)
def test_a_broken_sheet_is_rejected_with_file_line_and_column(broken: Broken) -> None:
    data = broken.make()

    said = complaints(broken.file, data, broken.kind)

    (complaint,) = said
    assert complaint.startswith(broken.file)
    assert broken.says in complaint
    assert "Traceback" not in complaint
    if broken.line:
        assert re.search(rf"lines? [^:]*\b{broken.line}\b", complaint, re.IGNORECASE)
    if broken.column:
        assert f"column {broken.column}" in complaint


def test_the_reader_process_returns_code_and_values_of_an_error() -> None:
    data = b'PatientID,Remark\n1001,"left open\n'

    with pytest.raises(UnreadableSheet) as refused:
        read_sheet(io.BytesIO(data), "list.csv")

    assert refused.value.message == Message(
        "sheet.unreadable-line", file="list.csv", line=2, reason=Message("sheet.quotation-mark")
    )


def test_reading_a_broken_sheet_does_not_use_the_database() -> None:
    """Any database query fails the test."""
    with connection.execute_wrapper(_no_query):
        for broken in FILES[:3] + ROWS:
            complaints(broken.file, broken.make(), broken.kind)


def test_error_messages_do_not_contain_cell_values() -> None:
    secret = "Mustermann"
    data = f"PatientID;PatientName;PatientBirthDate\n*;{secret} {secret};{secret}\n".encode()

    said = complaints("list.csv", data, FILES[0].kind)

    assert len(said) == 3
    assert secret not in "".join(said)


@pytest.mark.parametrize("broken", FILES, ids=str)
def test_reading_a_broken_sheet_stays_within_memory_and_time_limits(broken: Broken) -> None:
    form = "csv" if broken.file.endswith(".csv") else "xlsx"

    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, form],
        input=broken.make(),
        stdout=subprocess.PIPE,
        check=True,
    )

    memory_kb, seconds = map(float, measured.stdout.split())
    assert memory_kb * 1024 < limits.MAX_MEMORY_BYTES
    assert seconds < limits.MAX_SECONDS


def _no_query(execute: object, sql: str, *rest: object) -> None:
    raise AssertionError(f"a sheet was read with the database: {sql}")
