"""Spreadsheets of each kind that cannot become an order, and the expected message.

`line` and `column` are those that the message must name; 0 and "" if there are none.
"""

import io
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import openpyxl
import xlsxwriter

from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.mapping import guess_mapping
from adit.spreadsheets.query_rows import validate_query_rows
from adit.spreadsheets.reader import read_sheet
from adit.spreadsheets.row_verdicts import RowVerdict
from adit.spreadsheets.table import UnreadableSheet
from adit.spreadsheets.transfer_rows import validate_transfer_rows

Q, T = SheetKind.QUERY, SheetKind.TRANSFER
UID = "1.2.826.0.1.3680043.8.498."


@dataclass(frozen=True)
class Broken:
    what: str
    file: str
    make: Callable[[], bytes]
    says: str
    line: int = 0
    column: str = ""
    kind: SheetKind = Q

    def __str__(self) -> str:
        return self.what


def csv(*lines: str, encoding: str = "utf-8") -> Callable[[], bytes]:
    return lambda: "\r\n".join(lines).encode(encoding)


def xlsx(rows: Sequence[Sequence[object]] = (), sheet_name: str = "List") -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    page = book.add_worksheet(sheet_name)
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for line, row in enumerate(rows):
        for column, value in enumerate(row):
            if isinstance(value, date):
                page.write_datetime(line, column, value, day)
            elif isinstance(value, str) and not value.startswith("="):
                page.write_string(line, column, value)
            elif value is not None:
                page.write(line, column, value)
    book.close()
    return target.getvalue()


def book_of(*rows: Sequence[object]) -> Callable[[], bytes]:
    return lambda: xlsx(rows)


def without_values() -> bytes:
    """Return a workbook with a formula without cached value, as openpyxl writes it."""
    book = openpyxl.Workbook()
    book.active.append(["PatientID", "From"])
    book.active.append(["1001", "2024-01-01"])
    book.active["A3"] = "=A2&B2"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def hidden() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["PatientID"])
    book.create_sheet("empty")
    book.active.sheet_state = "hidden"
    book.active = 1
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def changed(part: str, change: Callable[[bytes], bytes], data: bytes | None = None) -> bytes:
    """Return a workbook with one part changed or added."""
    source = zipfile.ZipFile(io.BytesIO(data or xlsx([["PatientID"], ["1001"]])))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as book:
        names = source.namelist()
        for name in names:
            text = source.read(name)
            book.writestr(name, change(text) if name == part else text)
        if part not in names:
            book.writestr(part, change(b""))
    return target.getvalue()


def zipped(**parts: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return target.getvalue()


def damaged() -> bytes:
    """Return a workbook with one byte changed in a compressed sheet: the CRC differs."""
    data = bytearray(xlsx([["PatientID"], *([f"{n:06}"] for n in range(500))]))
    place = data.index(b"xl/worksheets/sheet1.xml") + 200
    data[place] ^= 0xFF
    return bytes(data)


def repetitive(data: bytes) -> bytes:
    return data.replace(b"</sheetData>", b"<!--" + b" " * 30_000_000 + b"--></sheetData>")


def bulky(data: bytes) -> bytes:
    """Exceed the allowed uncompressed size, with an inconspicuous compression ratio."""
    chance = random.Random(7)
    lot = b"".join(b"%08x" % chance.getrandbits(32) + b"." * 400 for _ in range(130_000))
    return data.replace(b"</sheetData>", b"<!--" + lot + b"--></sheetData>")


def entities(data: bytes) -> bytes:
    """Declare nine nested entities, each ten times the previous one."""
    names = "abcdefghij"
    grow = "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names))
    head = f'<!DOCTYPE worksheet [<!ENTITY a "1234567890">{grow}]>'.encode()
    text = re.sub(rb"(<\?xml[^>]*\?>)", rb"\1" + head, data)
    cell = b'<row r="2"><c r="A2" t="e"><f>1</f><v>&j;</v></c></row></sheetData>'
    return text.replace(b"</sheetData>", cell)


def far_below() -> bytes:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"] = "PatientID", "1001"
    book.active["A1048576"] = "x"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def sharing_nothing(data: bytes) -> bytes:
    return data.replace(b"<v>0</v>", b"<v>4711</v>")


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"1 0 obj <<>> endobj\n" * 40

FILES = (
    Broken("an empty file", "list.csv", lambda: b"", "empty"),
    Broken("nothing but blanks", "list.csv", lambda: b" \r\n \r\n", "empty"),
    Broken("an old workbook", "list.xls", lambda: OLE, "Save it as .xlsx"),
    Broken("a workbook with a password", "list.xlsx", lambda: OLE, "password"),
    Broken(
        "a binary workbook",
        "list.xlsb",
        lambda: zipped(**{"xl/workbook.bin": b"x"}),
        "binary workbook",
    ),
    Broken(
        "a workbook with macros",
        "list.xlsx",
        lambda: changed("xl/vbaProject.bin", lambda _: b"macro"),
        "macros",
    ),
    Broken("a workbook that may hold macros", "list.xlsm", lambda: xlsx([["PatientID"]]), "macros"),
    Broken(
        "a letter",
        "list.xlsx",
        lambda: zipped(**{"word/document.xml": b"<x/>"}),
        "not an Excel workbook",
    ),
    Broken("a PDF called a workbook", "list.xlsx", lambda: PDF, "does not match its extension"),
    Broken("a PDF", "list.pdf", lambda: PDF, "Only .xlsx and .csv"),
    Broken("half a workbook", "list.xlsx", lambda: xlsx([["PatientID"]])[:-200], "damaged"),
    Broken("a workbook with a wrong byte", "list.xlsx", damaged, "damaged"),
    Broken(
        "a sheet that ends in the middle",
        "list.xlsx",
        lambda: changed("xl/worksheets/sheet1.xml", lambda text: text[: len(text) // 2]),
        "damaged",
    ),
    Broken(
        "a text that is not in the workbook",
        "list.xlsx",
        lambda: changed("xl/worksheets/sheet1.xml", sharing_nothing),
        "damaged",
    ),
    Broken(
        "a bomb of blanks",
        "list.xlsx",
        lambda: changed("xl/worksheets/sheet1.xml", repetitive),
        "unpacked",
    ),
    Broken(
        "a bomb of different words",
        "list.xlsx",
        lambda: changed("xl/worksheets/sheet1.xml", bulky),
        "unpacked",
    ),
    Broken(
        "a bomb of entities",
        "list.xlsx",
        lambda: changed("xl/worksheets/sheet1.xml", entities),
        "damaged",
    ),
    Broken(
        "a file of six megabytes", "list.csv", lambda: b"PatientID\n" + b"1\n" * 3_000_000, "5 MB"
    ),
    Broken(
        "too many rows",
        "list.csv",
        lambda: b"PatientID\n" + b"1234\n" * 10_001,
        "more than 10000 rows",
        10_002,
    ),
    Broken("a cell far below", "list.xlsx", far_below, "more than 10000 rows", 1_048_576),
    Broken(
        "too many columns",
        "list.csv",
        csv("PatientID," + ",".join(f"c{n}" for n in range(51))),
        "more than 50 columns",
        1,
        "AY",
    ),
    Broken(
        "a cell that is a novel",
        "list.csv",
        csv("PatientID,Remark", "1001," + "word " * 300),
        "1000 characters",
        2,
        "B",
    ),
    Broken("nothing but a hidden sheet", "list.xlsx", hidden, "empty"),
    Broken("an empty workbook", "list.xlsx", book_of(), "empty"),
    Broken("headers alone", "list.xlsx", book_of(["PatientID"]), "below the headers", 1),
    Broken(
        "text with a NUL",
        "list.csv",
        lambda: b"PatientID\n1001\n10\x0002\n",
        "binary data",
        3,
    ),
    Broken(
        "UTF-16 that does not say so",
        "list.csv",
        lambda: "PatientID\n1001\n".encode("utf-16-le"),
        "binary data",
        1,
    ),
    Broken(
        "letters of no known character set",
        "list.csv",
        lambda: b"PatientName\nM\x81ller, A\n",
        "neither UTF-8 nor Windows-1252",
        2,
    ),
    Broken(
        "a quotation mark that nobody closes",
        "list.csv",
        csv("PatientID,Remark", "1001,fine", '1002,"left open', "1003,lost"),
        "quotation mark",
        3,
    ),
    Broken(
        "a quotation mark after a closed one",
        "list.csv",
        csv("PatientID,Remark", '1001,"a"b"'),
        "quotation mark",
        2,
    ),
)

ROWS = (
    Broken(
        "a cell that is a mistake of Excel",
        "list.xlsx",
        lambda: changed(
            "xl/worksheets/sheet1.xml",
            lambda text: text.replace(
                b"</sheetData>", b'<row r="3"><c r="A3" t="e"><v>#N/A</v></c></row></sheetData>'
            ),
        ),
        "spreadsheet error",
        3,
        "PatientID",
    ),
    Broken("a formula without a value", "list.xlsx", without_values, "formula", 3, "PatientID"),
    Broken(
        "an id of twenty digits as a number",
        "list.xlsx",
        book_of(["PatientID"], [12345678901234567890]),
        "more than 15 digits",
        2,
        "PatientID",
    ),
    Broken(
        "an id with a fraction",
        "list.xlsx",
        book_of(["PatientID"], ["1001"], [12.5]),
        "fraction",
        3,
        "PatientID",
    ),
    Broken(
        "an id that became a date",
        "list.xlsx",
        book_of(["PatientID"], [date(2024, 3, 1)]),
        "is a date",
        2,
        "PatientID",
    ),
    Broken("an id with a wildcard", "list.csv", csv("MRN", "10*"), "wildcards", 2, "MRN"),
    Broken("an id with a backslash", "list.csv", csv("PID", "1", "a\\b"), "Backslashes", 3, "PID"),
    Broken("an id of 65 characters", "list.csv", csv("PID", "9" * 65), "At most 64", 2, "PID"),
    Broken(
        "an accession number that is too long",
        "list.csv",
        csv("AccessionNumber", "A" * 17),
        "At most 16",
        2,
        "AccessionNumber",
    ),
    Broken(
        "a day that does not exist",
        "list.csv",
        csv("PatientID;From", "1001;31.02.2024"),
        "does not exist",
        2,
        "From",
    ),
    Broken(
        "a date in words",
        "list.csv",
        csv("PatientID;From", "1001;last spring"),
        "not a date",
        2,
        "From",
    ),
    Broken(
        "a date of two digits' year",
        "list.csv",
        csv("PatientID;From", "1001;01.02.24"),
        "not a date",
        2,
        "From",
    ),
    Broken(
        "an end before its beginning",
        "list.csv",
        csv("PatientID;From;Until", "1001;2024-02-01;2024-01-31"),
        "before the first",
        2,
        "Until",
    ),
    Broken(
        "a birth to come",
        "list.csv",
        csv("PatientName;PatientBirthDate", "Doe^Jane;2999-01-01"),
        "future",
        2,
        "PatientBirthDate",
    ),
    Broken(
        "a name in one piece",
        "list.csv",
        csv("PatientName;PatientBirthDate", "Jane Doe;1970-01-01"),
        "Last, First",
        2,
        "PatientName",
    ),
    Broken(
        "a name without a birth date",
        "list.csv",
        csv("PatientName;Geb.-Dat.", "Doe, Jane;"),
        "birth date is missing",
        2,
        "Geb.-Dat.",
    ),
    Broken(
        "a birth date without a name",
        "list.csv",
        csv("PatientName;Geb.-Dat.", ";1970-01-01"),
        "name is missing",
        2,
        "PatientName",
    ),
    Broken(
        "a row that names nobody",
        "list.csv",
        csv("PatientID;From", ";2024-01-01"),
        "does not identify a patient",
        2,
    ),
    Broken(
        "a modality that is a sentence",
        "list.csv",
        csv("PatientID;Modality", "1001;(CT?)"),
        "not a modality",
        2,
        "Modality",
    ),
    Broken(
        "a series number that is a word",
        "list.csv",
        csv("PatientID;SeriesNumber", "1001;three"),
        "whole number",
        2,
        "SeriesNumber",
    ),
    Broken(
        "a pseudonym that no folder can have",
        "list.csv",
        csv("PatientID;Pseudonym", "1001;../A"),
        "",
        2,
        "Pseudonym",
    ),
    Broken(
        "one patient with two pseudonyms",
        "list.csv",
        csv("PatientID;Pseudonym", "1001;A", "1002;B", "1001;C"),
        "several pseudonyms",
        4,
    ),
    Broken(
        "one pseudonym for two patients",
        "list.csv",
        csv("PatientID;Pseudonym", "1001;A", "1002;a"),
        "several patients",
        3,
    ),
    Broken(
        "one study with two patients",
        "list.csv",
        csv("PatientID;StudyInstanceUID", f"1001;{UID}1", f"1002;{UID}1"),
        "several patients",
        3,
        kind=T,
    ),
    Broken(
        "one series in two studies",
        "list.csv",
        csv(
            "PatientID;StudyInstanceUID;SeriesInstanceUID",
            f"1001;{UID}1;{UID}9",
            f"1001;{UID}2;{UID}9",
        ),
        "several studies",
        3,
        kind=T,
    ),
    Broken(
        "a UID with letters",
        "list.csv",
        csv("PatientID;StudyInstanceUID", "1001;1.2.x"),
        "UID",
        2,
        "StudyInstanceUID",
        kind=T,
    ),
    Broken(
        "a study without its patient",
        "list.csv",
        csv("PatientID;StudyInstanceUID", f";{UID}1"),
        "patient ID is missing",
        2,
        "PatientID",
        kind=T,
    ),
    Broken(
        "a day without a modality",
        "list.csv",
        csv("PatientID;StudyDate;Modality", "1001;2024-01-01;"),
        "modality is missing",
        2,
        "Modality",
        kind=T,
    ),
)


def complaints(file: str, data: bytes, kind: SheetKind) -> list[str]:
    """Return all errors that a user gets for this file, from reading to row validation."""
    try:
        table = read_sheet(io.BytesIO(data), file)
        mapping = guess_mapping(table, kind)
        judged = (validate_query_rows if kind is Q else validate_transfer_rows)(table, mapping)
    except UnreadableSheet as refusal:
        return [str(refusal)]
    bad = RowVerdict.ERROR
    return [f"{judged.file}: {found}" for found in judged.findings if found.verdict is bad]
