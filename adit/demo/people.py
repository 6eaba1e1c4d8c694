"""The sample patients and their hospitals, all made up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

LATIN = "ISO_IR 100"
UTF8 = "ISO_IR 192"
JAPANESE = ("", "ISO 2022 IR 87")


@dataclass(frozen=True)
class Hospital:
    name: str
    address: str
    department: str
    domain: str
    referring: tuple[str, ...]
    reading: tuple[str, ...]
    operators: tuple[str, ...]


MUSTERSTADT = Hospital(
    "Universitätsklinikum Musterstadt",
    "Beispielallee 12, 01234 Musterstadt",
    "Klinik für Radiologie",
    "MUSTERSTADT",
    ("Überweiser^Jörg^^Dr.", "Hausarzt^Käthe^^Dr. med."),
    ("Befunder^Günther^^Prof. Dr.", "Oberärztin^Sabine^^Dr."),
    ("Röntgen^Björn", "Schröder^Jana"),
)
EXAMPLETON = Hospital(
    "Exampleton General Hospital",
    "1 Sample Street, Exampleton EX1 2MP",
    "Radiology",
    "EXAMPLETON",
    ("Practitioner^Paula^^Dr.", "Familydoctor^Frank^^Dr."),
    ("Reader^Rosalind^^Dr.", "Consultant^Colin^^Prof."),
    ("Technician^Terry", "Radiographer^Rita"),
)
HINAGATA = Hospital(
    "雛形大学病院",
    "東京都雛形区二番三号",
    "放射線科",
    "HINAGATA",
    ("Irai^Ichiro=依頼^一郎=いらい^いちろう",),
    ("Dokuei^Yoko=読影^陽子=どくえい^ようこ",),
    ("Gishi^Satoru=技師^悟=ぎし^さとる",),
)
GYEONBON = Hospital(
    "견본대학교병원",
    "서울특별시 견본구 견본로 12",
    "영상의학과",
    "GYEONBON",
    ("Uiroe^Minjun=의뢰^민준",),
    ("Pandok^Seoyeon=판독^서연",),
    ("Gisa^Jihun=기사^지훈",),
)


@dataclass(frozen=True)
class Person:
    """One patient. `number` also determines body size and findings in the images."""

    number: int
    name: str
    born: date
    sex: str
    hospital: Hospital = EXAMPLETON
    charset: str | tuple[str, ...] = LATIN

    @property
    def patient_id(self) -> str:
        return f"{self.hospital.domain[:3]}-{4700000 + 7919 * self.number:07d}"

    @property
    def insurance_id(self) -> str:
        return f"X{110000000 + 1234577 * self.number}"

    @property
    def plain_name(self) -> str:
        """The first component group of the name, as a person would write it."""
        family, _, given = self.name.split("=")[0].partition("^")
        return f"{given} {family}".strip()


_ROWS: Sequence[tuple[str, str, str, Hospital, str | tuple[str, ...]]] = (
    ("Müller^Änne", "19610503", "F", MUSTERSTADT, LATIN),
    ("Mori^Hanako=森^花子=もり^はなこ", "19740812", "F", HINAGATA, JAPANESE),
    ("Groß^Jürgen", "19490127", "M", MUSTERSTADT, LATIN),
    ("O'Sample^Seán", "19831130", "M", EXAMPLETON, UTF8),
    ("Suzuki^Kenji=鈴木^健二=すずき^けんじ", "19560221", "M", HINAGATA, JAPANESE),
    ("Özdemir^Ayşe", "19900614", "F", MUSTERSTADT, UTF8),
    ("Kim^Jiyoung=김^지영", "19681005", "F", GYEONBON, UTF8),
    ("Böhm-Straßer^Katharina^Maria^^M.A.", "19771218", "F", MUSTERSTADT, LATIN),
    ("Exemplar^Edward", "19520309", "M", EXAMPLETON, LATIN),
    ("Wiśniewska^Zofia", "19650730", "F", EXAMPLETON, UTF8),
    ("Schäfer^Heinz-Günter", "19380416", "M", MUSTERSTADT, LATIN),
    ("Tanaka^Yuki=田中^優希=たなか^ゆうき", "20020119", "O", HINAGATA, UTF8),
    ("Instance^Ida", "19710925", "F", EXAMPLETON, LATIN),
    ("Lefèvre^Hélène", "19800107", "F", EXAMPLETON, LATIN),
    ("Köhler^Löwe", "20110822", "M", MUSTERSTADT, LATIN),
    ("Specimen^Samuel^Quentin", "19471103", "M", EXAMPLETON, LATIN),
    ("Park^Sungho=박^성호", "19590528", "M", GYEONBON, UTF8),
    ("Jäger^Bärbel", "19540211", "F", MUSTERSTADT, UTF8),
    ("Sato^Akira=佐藤^明=さとう^あきら", "19441206", "M", HINAGATA, JAPANESE),
    ("Placeholder^Penelope", "19860317", "F", EXAMPLETON, LATIN),
    ("Nguyễn^Thị Mẫu", "19930708", "F", EXAMPLETON, UTF8),
    ("Kölsch^Jupp", "19630429", "M", MUSTERSTADT, LATIN),
    ("Dummy^Daniel", "19750610", "M", EXAMPLETON, LATIN),
    ("Fröhlich^Grete", "19321024", "F", MUSTERSTADT, LATIN),
    ("Prototype^Priya", "19980202", "F", EXAMPLETON, LATIN),
    ("Čapková^Růžena", "19570915", "F", EXAMPLETON, UTF8),
    ("Muñoz^José", "19880523", "M", EXAMPLETON, LATIN),
    ("Weiß^Süleyman", "19691112", "M", MUSTERSTADT, LATIN),
)

PEOPLE: tuple[Person, ...] = tuple(
    Person(number, name, date.fromisoformat(born), sex, hospital, charset)
    for number, (name, born, sex, hospital, charset) in enumerate(_ROWS, start=1)
)
