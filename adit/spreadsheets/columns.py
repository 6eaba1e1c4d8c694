"""Columns: what a sheet of each kind may ask for, and under which headers people write it."""

import unicodedata
from collections.abc import Mapping
from enum import StrEnum


class SheetKind(StrEnum):
    QUERY = "query"
    TRANSFER = "transfer"


class Field(StrEnum):
    """A column that ADIT understands, by the header that templates give it."""

    PATIENT_ID = "PatientID"
    PATIENT_NAME = "PatientName"
    FAMILY_NAME = "FamilyName"
    GIVEN_NAME = "GivenName"
    BIRTH_DATE = "PatientBirthDate"
    ACCESSION = "AccessionNumber"
    FROM = "From"
    UNTIL = "Until"
    STUDY_DATE = "StudyDate"
    DAYS = "Days"
    """How many days a study may lie before or after StudyDate."""
    MODALITY = "Modality"
    STUDY_DESCRIPTION = "StudyDescription"
    SERIES_DESCRIPTION = "SeriesDescription"
    SERIES_NUMBER = "SeriesNumber"
    STUDY_UID = "StudyInstanceUID"
    SERIES_UID = "SeriesInstanceUID"
    PSEUDONYM = "Pseudonym"


FIELDS: Mapping[SheetKind, tuple[Field, ...]] = {
    SheetKind.QUERY: (
        Field.PATIENT_ID,
        Field.PATIENT_NAME,
        Field.FAMILY_NAME,
        Field.GIVEN_NAME,
        Field.BIRTH_DATE,
        Field.ACCESSION,
        Field.FROM,
        Field.UNTIL,
        Field.MODALITY,
        Field.STUDY_DESCRIPTION,
        Field.SERIES_DESCRIPTION,
        Field.SERIES_NUMBER,
        Field.PSEUDONYM,
    ),
    SheetKind.TRANSFER: (
        Field.PATIENT_ID,
        Field.STUDY_UID,
        Field.SERIES_UID,
        Field.ACCESSION,
        Field.STUDY_DATE,
        Field.DAYS,
        Field.MODALITY,
        Field.PSEUDONYM,
    ),
}

OURS = "ADIT"
"""Headers that begin with this word and a blank are answers of an earlier export: not kept."""

_NAMES: Mapping[Field, str] = {
    Field.PATIENT_ID: "patid patientenid patientennummer patientennr patientnumber patientno "
    "patientnr patnr pid mrn piz patientenkennung patientidentifier",
    Field.PATIENT_NAME: "name patientsname patientenname namevorname nachnamevorname patname",
    Field.FAMILY_NAME: "lastname surname nachname familienname",
    Field.GIVEN_NAME: "firstname vorname vornamen",
    Field.BIRTH_DATE: "birthdate birthday dateofbirth dob patientsbirthdate geburtsdatum gebdat "
    "gebdatum geburtstag geboren geb",
    Field.ACCESSION: "accession accessionno accessionnr accno accnr acc auftragsnummer auftragsnr "
    "anforderungsnummer anforderungsnr untersuchungsnummer untersuchungsnr",
    Field.FROM: "von ab start startdate fromdate datefrom studydatefrom datumvon",
    Field.UNTIL: "to bis end enddate untildate todate dateto studydateuntil studydateto datumbis",
    Field.STUDY_DATE: "dateofstudy examdate studiendatum untersuchungsdatum",
    Field.DAYS: "tage toleranz tolerance plusminusdays daystolerance",
    Field.MODALITY: "modalities modalitiesinstudy modalitaet modalitaeten",
    Field.STUDY_DESCRIPTION: "studienbeschreibung untersuchungsbeschreibung",
    Field.SERIES_DESCRIPTION: "serienbeschreibung",
    Field.SERIES_NUMBER: "seriesno seriesnr seriennr",
    Field.STUDY_UID: "studyuid studieninstanzuid studienuid",
    Field.SERIES_UID: "seriesuid serieninstanzuid serienuid",
    Field.PSEUDONYM: "pseudonyme patientpseudonym",
}
_HINTS: Mapping[Field, str] = {
    Field.PATIENT_ID: "id patient patienten",
    Field.ACCESSION: "fallnr fallnummer fallid fall caseno casenumber",
    Field.STUDY_DATE: "datum date aufnahmedatum",
    Field.MODALITY: "geraet device",
    Field.STUDY_DESCRIPTION: "untersuchung beschreibung description exam",
    Field.SERIES_DESCRIPTION: "serie series sequenz sequence",
    Field.SERIES_NUMBER: "seriennummer",
    Field.STUDY_UID: "uid suid studie study",
    Field.PSEUDONYM: "code studycode studiencode alias subject subjectid probandenid "
    "probandennummer proband",
}
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e", "è": "e"})


def plain(header: str) -> str:
    """Letters and digits alone, so that Geb.-Dat., GEB DAT and gebdat are one."""
    whole = unicodedata.normalize("NFC", header).lower()
    return "".join(c for c in whole.translate(_LETTERS) if c.isascii() and c.isalnum())


def _by_header(words: Mapping[Field, str]) -> dict[str, list[Field]]:
    found: dict[str, list[Field]] = {}
    for field, said in words.items():
        for word in said.split():
            found.setdefault(word, []).append(field)
    return found


_KNOWN = _by_header({field: f"{plain(field)} {said}" for field, said in _NAMES.items()})
_GUESSED = _by_header(_HINTS)


def known(header: str, kind: SheetKind) -> Field | None:
    """The column that this header names for certain."""
    return _first(_KNOWN, header, kind)


def guessed(header: str, kind: SheetKind) -> Field | None:
    """The column that this header may mean: somebody should look."""
    return _first(_GUESSED, header, kind)


def is_known(header: str) -> bool:
    return plain(header) in _KNOWN


def is_ours(header: str) -> bool:
    return header.strip().startswith(f"{OURS} ")


def _first(words: Mapping[str, list[Field]], header: str, kind: SheetKind) -> Field | None:
    return next((f for f in words.get(plain(header), ()) if f in FIELDS[kind]), None)
