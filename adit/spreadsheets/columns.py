"""Columns that ADIT knows in a sheet of each kind, and the headers by which it recognizes them.

Used by the readers, the column mapping and the templates.
"""

import unicodedata
from collections.abc import Mapping
from enum import StrEnum


class SheetKind(StrEnum):
    QUERY = "query"
    TRANSFER = "transfer"
    CONSENT = "consent"


class SheetField(StrEnum):
    """A column that ADIT understands. The value is the header that templates use."""

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
    VISIT = "Visit"
    VISIT_DESCRIPTION = "VisitDescription"
    DOMAIN = "Domain"
    """Who issued the patient ID."""
    VALID_UNTIL = "ValidUntil"
    WITHDRAWN_ON = "WithdrawnOn"


FIELDS: Mapping[SheetKind, tuple[SheetField, ...]] = {
    SheetKind.QUERY: (
        SheetField.PATIENT_ID,
        SheetField.PATIENT_NAME,
        SheetField.FAMILY_NAME,
        SheetField.GIVEN_NAME,
        SheetField.BIRTH_DATE,
        SheetField.ACCESSION,
        SheetField.FROM,
        SheetField.UNTIL,
        SheetField.MODALITY,
        SheetField.STUDY_DESCRIPTION,
        SheetField.SERIES_DESCRIPTION,
        SheetField.SERIES_NUMBER,
        SheetField.PSEUDONYM,
    ),
    SheetKind.TRANSFER: (
        SheetField.PATIENT_ID,
        SheetField.STUDY_UID,
        SheetField.SERIES_UID,
        SheetField.ACCESSION,
        SheetField.STUDY_DATE,
        SheetField.DAYS,
        SheetField.MODALITY,
        SheetField.PSEUDONYM,
        SheetField.VISIT,
        SheetField.VISIT_DESCRIPTION,
    ),
    SheetKind.CONSENT: (
        SheetField.PATIENT_ID,
        SheetField.DOMAIN,
        SheetField.MODALITY,
        SheetField.VALID_UNTIL,
        SheetField.WITHDRAWN_ON,
    ),
}

RESULT_PREFIX = "ADIT"
"""Headers that begin with this word and a space are results of an earlier export. They are not
kept.
"""

_SYNONYMS: Mapping[SheetField, str] = {
    SheetField.PATIENT_ID: "patid patientenid patientennummer patientennr patientnumber patientno "
    "patientnr patnr pid mrn piz patientenkennung patientidentifier",
    SheetField.PATIENT_NAME: "name patientsname patientenname namevorname nachnamevorname patname",
    SheetField.FAMILY_NAME: "lastname surname nachname familienname",
    SheetField.GIVEN_NAME: "firstname vorname vornamen",
    SheetField.BIRTH_DATE: "birthdate birthday dateofbirth dob patientsbirthdate geburtsdatum gebdat "
    "gebdatum geburtstag geboren geb",
    SheetField.ACCESSION: "accession accessionno accessionnr accno accnr acc auftragsnummer auftragsnr "
    "anforderungsnummer anforderungsnr untersuchungsnummer untersuchungsnr",
    SheetField.FROM: "von ab start startdate fromdate datefrom studydatefrom datumvon",
    SheetField.UNTIL: "to bis end enddate untildate todate dateto studydateuntil studydateto datumbis",
    SheetField.STUDY_DATE: "dateofstudy examdate studiendatum untersuchungsdatum",
    SheetField.DAYS: "tage toleranz tolerance plusminusdays daystolerance",
    SheetField.MODALITY: "modalities modalitiesinstudy modalitaet modalitaeten",
    SheetField.STUDY_DESCRIPTION: "studienbeschreibung untersuchungsbeschreibung",
    SheetField.SERIES_DESCRIPTION: "serienbeschreibung",
    SheetField.SERIES_NUMBER: "seriesno seriesnr seriennr",
    SheetField.STUDY_UID: "studyuid studieninstanzuid studienuid",
    SheetField.SERIES_UID: "seriesuid serieninstanzuid serienuid",
    SheetField.PSEUDONYM: "pseudonyme patientpseudonym",
    SheetField.VISIT: "visite visitid visitname visitno visitnr session sessionid timepoint "
    "timepointid zeitpunkt clinicaltrialtimepointid",
    SheetField.VISIT_DESCRIPTION: "visitenbeschreibung visitebeschreibung sessiondescription "
    "timepointdescription clinicaltrialtimepointdescription",
    SheetField.DOMAIN: "issuedby issuer issuerofpatientid patientiddomain domaene ausgestelltvon",
    SheetField.VALID_UNTIL: "until validto expires expireson bis gueltigbis gueltigkeit",
    SheetField.WITHDRAWN_ON: "withdrawn withdrawal withdrawaldate dateofwithdrawal widerruf "
    "widerrufam widerrufenam widerrufsdatum",
}
_AMBIGUOUS_NAMES: Mapping[SheetField, str] = {
    SheetField.PATIENT_ID: "id patient patienten",
    SheetField.ACCESSION: "fallnr fallnummer fallid fall caseno casenumber",
    SheetField.STUDY_DATE: "datum date aufnahmedatum",
    SheetField.MODALITY: "geraet device",
    SheetField.STUDY_DESCRIPTION: "untersuchung beschreibung description exam",
    SheetField.SERIES_DESCRIPTION: "serie series sequenz sequence",
    SheetField.SERIES_NUMBER: "seriennummer",
    SheetField.STUDY_UID: "uid suid studie study",
    SheetField.PSEUDONYM: "code studycode studiencode alias subject subjectid probandenid "
    "probandennummer proband",
}
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e", "è": "e"})


def normalize_header(header: str) -> str:
    """Return only the letters and digits, so that Geb.-Dat., GEB DAT and gebdat match."""
    whole = unicodedata.normalize("NFC", header).lower()
    return "".join(c for c in whole.translate(_LETTERS) if c.isascii() and c.isalnum())


def _index_by_header(words: Mapping[SheetField, str]) -> dict[str, list[SheetField]]:
    found: dict[str, list[SheetField]] = {}
    for field, said in words.items():
        for word in said.split():
            found.setdefault(word, []).append(field)
    return found


_FIELDS_BY_SYNONYM = _index_by_header(
    {field: f"{normalize_header(field)} {said}" for field, said in _SYNONYMS.items()}
)
_FIELDS_BY_AMBIGUOUS_NAME = _index_by_header(_AMBIGUOUS_NAMES)


def match_header(header: str, kind: SheetKind) -> SheetField | None:
    """Return the column that this header names unambiguously, if any."""
    return _find_field(_FIELDS_BY_SYNONYM, header, kind)


def guess_header(header: str, kind: SheetKind) -> SheetField | None:
    """Return the column that this header may mean, if any. The user should confirm it."""
    return _find_field(_FIELDS_BY_AMBIGUOUS_NAME, header, kind)


def is_known_header(header: str) -> bool:
    return normalize_header(header) in _FIELDS_BY_SYNONYM


def is_result_header(header: str) -> bool:
    return header.strip().startswith(f"{RESULT_PREFIX} ")


def _find_field(
    words: Mapping[str, list[SheetField]], header: str, kind: SheetKind
) -> SheetField | None:
    return next((f for f in words.get(normalize_header(header), ()) if f in FIELDS[kind]), None)
