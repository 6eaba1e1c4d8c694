"""Attacks by text: personal data, in all spellings, in elements that may be kept.

Used by `deid_corpus`.
"""

from collections.abc import Iterator
from struct import pack

from deid_file import CT, ROOT, element, file, items
from deid_victim import (
    BIRTH,
    DEVICE,
    ENHANCED_MR,
    FAMILY,
    GIVEN,
    INSTITUTION,
    MR,
    NAME,
    NUMBER,
    PATIENT_ID,
    PET,
    PHYSICIAN,
    PLAIN,
    REMARK,
    SEG,
    STATION,
    STUDY,
    Attack,
    base,
    days,
    names,
    numbers,
)


def told() -> Iterator[Attack]:
    """Yield all attacks of this module."""
    for kind in (
        _typed_in, _other_words, _dates, _numbers, _uids, _charsets, _descriptions, _codes,
    ):  # fmt: skip
        yield from kind()


# Text that a rule keeps: only a search for the person can find it there.
_STAYS = {
    CT: {
        0x00080070: "LO", 0x00081090: "LO", 0x00181020: "LO", 0x00181210: "SH", 0x00181160: "SH",
        0x00185100: "CS", 0x00180015: "CS", 0x00080008: "CS", 0x00281054: "LO", 0x00181400: "LO",
    },
    MR: {0x00180024: "SH", 0x00181250: "SH", 0x00181251: "SH", 0x00180085: "SH", 0x00180022: "CS"},
    PET: {0x00541101: "LO", 0x00541103: "LO", 0x00541105: "LO", 0x00541000: "CS"},
}  # fmt: skip


def _typed_in() -> Iterator[Attack]:
    for sop_class, places in _STAYS.items():
        for tag, vr in places.items():
            for what, text in (PLAIN | DEVICE).items():
                made = base(sop_class) | {tag: (vr, f"as {text}".encode())}
                yield Attack("typed in", f"{tag:08x} {what}", file(made))
    coil = element(0x00189041, "LO", GIVEN.encode()) + element(0x00189043, "CS", b"BODY")
    inside = items(element(0x00189042, "SQ", items(coil)))
    made = base(ENHANCED_MR, t52009229=("SQ", inside))
    yield Attack("typed in", "coil of an enhanced image", file(made))
    segment = element(0x00620004, "US", b"\1\0") + element(
        0x00620005, "LO", f"{GIVEN} liver".encode()
    )
    segment += element(0x00620006, "ST", REMARK.encode())
    yield Attack("typed in", "segment label", file(base(SEG, t00620002=("SQ", items(segment)))))
    dimension = element(0x00209165, "AT", pack("<HH", 0x20, 0x9056))
    dimension += element(0x00209421, "LO", PATIENT_ID.encode())
    made = base(ENHANCED_MR, t00209222=("SQ", items(dimension)))
    yield Attack("typed in", "dimension label", file(made))


def _other_words() -> Iterator[Attack]:
    """The family name in other spellings, cases and joined words, in text that may be kept."""
    for number, name in enumerate(dict.fromkeys(names())):
        for form in (
            name,
            name.upper(),
            name.lower(),
            f"{GIVEN} {name}",
            f"x_{name}_2",
            f"{name}7",
        ):
            made = base(t00080005=("CS", b"ISO_IR 192"), t00081090=("LO", form.encode()))
            name_bytes = f"{FAMILY}^{GIVEN}".encode()
            made |= {0x00100010: ("PN", name_bytes)}
            yield Attack("spelling", f"{number} {form.isupper()} {len(form)}", file(made))
    for text in (
        f"1.2.{BIRTH}.3",
        f"{PATIENT_ID}\\{GIVEN}",
        f"{GIVEN[:4]}\\{GIVEN}",
        f"{GIVEN}\0\0",
    ):
        yield Attack("spelling", text, file(base(t00081090=("LO", text.encode()))))
    bare = PATIENT_ID.replace("-", "")
    for text in (bare, bare.lower(), PATIENT_ID.replace("-", "."), PATIENT_ID.replace("-", " ")):
        yield Attack("spelling", text, file(base(t00081090=("LO", text.encode()))))


def _dates() -> Iterator[Attack]:
    for day in (BIRTH, STUDY):
        for text in dict.fromkeys(days(day)):
            yield Attack("date", f"in text {text}", file(base(t00181020=("LO", text.encode()))))
        for tag, vr, text in (
            (0x00080021, "DA", f"{day[:4]}.{day[4:6]}.{day[6:]}"), (0x00080022, "DA", f"{day}-"),
            (0x00080023, "DA", f"-{day}"), (0x00080022, "DA", f"{day}-{day}"),
            (0x0008002A, "DT", f"{day}-{day}"), (0x0008002A, "DT", f"{day}101500-20"),
            (0x00080031, "TM", day), (0x00080032, "TM", f"{day}1015"), (0x00200011, "IS", day),
            (0x00200013, "IS", f"{day}\\{day}"), (0x00201041, "DS", day), (0x00180050, "DS", f"{day}.0"),
            (0x00180088, "DS", f"1\\{day}"), (0x00080201, "SH", day), (0x0008002A, "DT", f"{day[:6]}"),
            (0x00200011, "IS", f"+{day}"), (0x00180050, "DS", f"{day}E0"),
        ):  # fmt: skip
            yield Attack("date", f"{tag:08x} {text}", file(base() | {tag: (vr, text.encode())}))
        for tag in (0x00080012, 0x00080020, 0x00080021, 0x00080022, 0x00080023, 0x00181012):
            made = base() | {tag: ("DA", day.encode())}
            yield Attack("date", f"{tag:08x}", file(made), leaves=True)
        made = base(t0008002a=("DT", f"{day}101500.123456+0100".encode()))
        yield Attack("date", "date and time", file(made), leaves=True)
        for partial in (day[:6], day[:4]):
            made = base(t0008002a=("DT", partial.encode()), t00080022=("DA", partial.encode()))
            yield Attack("date", f"partial {partial}", file(made), leaves=True)
        for form in (f"1.2.840.{day}.1", f"2.25.{day}", f"{ROOT}.{day}101500"):
            made = base(t00080018=("UI", form.encode()))
            yield Attack("date", f"in a UID {form}", file(made), leaves=True)


def _numbers() -> Iterator[Attack]:
    """Binary values that are the patient's number or a date."""
    for what, number in (("number", NUMBER), ("birth", int(BIRTH)), ("study", int(STUDY))):
        for tag, vr, form in (
            (0x00189073, "FD", "<d"), (0x00189087, "FD", "<d"), (0x00186020, "SL", "<i"),
            (0x00720076, "FL", "<f"), (0x00189306, "FD", "<d"), (0x00189311, "FD", "<d"),
        ):  # fmt: skip
            value = pack(form, number)
            for sop_class in (CT, MR):
                made = base(sop_class) | {tag: (vr, value)}
                yield Attack("binary number", f"{tag:08x} {what}", file(made))
        digits = str(number)
        for text in (digits, f"+{digits}", f"0{digits}", f"{digits}.0", f"{digits}e0"):
            made = base(t00201041=("DS", text.encode()), t00180050=("DS", text.encode()))
            yield Attack("binary number", f"as text {text}", file(made))
    creator = {0x20050010: ("LO", b"Philips MR Imaging DD 001")}
    for value in numbers(int(BIRTH)):
        made = base(MR) | creator | {0x2005100D: ("FL", value[:4])}
        yield Attack("binary number", "in a safe private element", file(made))


def _uids() -> Iterator[Attack]:
    uid = f"{ROOT}.4711.{BIRTH}".encode()
    for tag in (
        0x00080014, 0x00080017, 0x00080019, 0x0008001A, 0x00080058, 0x00081155, 0x00081195,
        0x0020000D, 0x0020000E, 0x00200052, 0x00200200, 0x00181002, 0x00209161, 0x00209164,
        0x00281199, 0x00281214, 0x00404023, 0x0040A124, 0x0040DB0C, 0x00880140, 0x04000100,
        0x30060024, 0x300600C2, 0x300A0013, 0x0040A171, 0x00041511, 0x300A0650, 0x00700310,
    ):  # fmt: skip
        for value in (uid, uid + b" ", uid + b"\0\0", uid + b"\\" + uid, b"0" + uid, uid[:-9]):
            made = base() | {tag: ("UI", value)}
            yield Attack("UID", f"{tag:08x} {value!r}", file(made))
    for tag, vr in ((0x00081090, "LO"), (0x00181020, "LO"), (0x00181210, "SH"), (0x00185100, "CS")):
        for value in (ROOT.encode(), f"{ROOT}.1.1".encode(), f"v{ROOT}.1".encode()):
            yield Attack("UID", f"in text {tag:08x}", file(base() | {tag: (vr, value)}))
    name = element(0x00081150, "UI", CT.encode()) + element(0x00081155, "UI", GIVEN.encode())
    made = base(t00081140=("SQ", items(name)), t00200052=("UI", NAME.encode("latin-1")))
    yield Attack("UID", "a name in its place", file(made))


def _charsets() -> Iterator[Attack]:
    names_ = {
        "=ideographic": (b"\\ISO 2022 IR 87", b"Quolfhauser^Xanthippe=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        "padded": (b"ISO_IR 100", f"  {NAME}^^^  ".encode("latin-1")),
        "lower": (b"ISO_IR 100", NAME.lower().encode("latin-1")),
        "false label": (b"ISO_IR 144", NAME.encode("latin-1")),
        "UTF-8 as Latin-1": (b"ISO_IR 100", NAME.encode()),
        "Latin-1 as UTF-8": (b"ISO_IR 192", NAME.encode("latin-1")),
        "no label": (b"", NAME.encode("latin-1")),
        "unknown label": (b"ISO_IR 9999", NAME.encode("latin-1")),
        "two labels": (b"ISO_IR 100\\ISO_IR 192", NAME.encode()),
        "escapes": (b"\\ISO 2022 IR 100", b"Qu\x1b-A\xf6lfh\xe4user^Xan\x1b(Bthippe"),
        "GB18030": (b"GB18030", NAME.encode("gb18030")),
    }  # fmt: skip
    for what, (label, raw) in names_.items():
        for tag, vr in (
            (0x00081090, "LO"),
            (0x00181020, "LO"),
            (0x00181160, "SH"),
            (0x00081030, "LO"),
        ):
            made = base() | {0x00080005: ("CS", label), 0x00100010: ("PN", raw)}
            stays = raw.replace(b"^", b" ").split(b"=")[0].strip()
            yield Attack("charset", f"{what} {tag:08x}", file(made | {tag: (vr, stays)}))
        nested = element(0x00080005, "CS", label) + element(0x00100010, "PN", raw)
        made = base(t00081140=("SQ", items(nested)))
        yield Attack("charset", f"{what} nested", file(made), leaves=True)


def _descriptions() -> Iterator[Attack]:
    texts = (
        REMARK, f"CT chest {GIVEN}", f"MRT {FAMILY} Kopf", f"{BIRTH} knee", f"for {PHYSICIAN}",
        f"head {NUMBER}", f"{INSTITUTION} routine", f"Dr {PHYSICIAN} 2024-02-29",
    )  # fmt: skip
    for tag, vr in (
        (0x00081030, "LO"), (0x0008103E, "LO"), (0x00181030, "LO"), (0x00204000, "LT"),
        (0x00324000, "LT"), (0x00104000, "LT"), (0x00081080, "LO"), (0x001021B0, "LT"),
        (0x00400254, "LO"), (0x00321060, "LO"), (0x00402400, "LT"), (0x00184000, "LT"),
        (0x00180010, "LO"), (0x30060002, "SH"), (0x300A0002, "SH"), (0x300A0003, "LO"),
        (0x00700080, "CS"), (0x00700081, "LO"), (0x0040A160, "UT"), (0x00700006, "ST"),
        (0x60004000, "LT"), (0x60001500, "LO"), (0x50000040, "SH"), (0x00209158, "LT"),
        (0x0018937F, "UT"), (0x00189937, "UT"), (0x00142004, "IS"), (0x00420010, "ST"),
    ):  # fmt: skip
        for text in texts:
            made = base() | {tag: (vr, text.encode("latin-1"))}
            yield Attack(
                "description",
                f"{tag:08x} {text[:12]}",
                file(made),
                leaves=tag != 0x00700080 or None,
            )
    interpreter = element(0x300600A6, "PN", NAME.encode("latin-1"))
    machine = element(0x300A00B2, "SH", STATION.encode())
    frame = element(0x00209158, "LT", REMARK.encode())
    for sop_class, place, inner in (
        ("481.3", 0x30060020, element(0x30060026, "LO", f"PTV {GIVEN}".encode())),
        ("481.3", 0x30060080, element(0x30060085, "SH", GIVEN.encode()) + interpreter),
        ("481.5", 0x300A00B0, element(0x300A00C2, "LO", f"Feld {GIVEN}".encode()) + machine),
        ("481.5", 0x300A0010, element(0x300A0016, "LO", REMARK.encode())),
        ("66.4", 0x00620002, element(0x00620006, "ST", REMARK.encode())),
        ("4.1", 0x52009229, element(0x00209111, "SQ", items(frame))),
        ("481.3", 0x30060010, element(0x30060038, "LO", GIVEN.encode())),
    ):  # fmt: skip
        made = {
            t: e
            for t, e in base(f"{CT[:-1]}{sop_class}").items()
            if sop_class in ("66.4", "4.1") or t >> 16 not in (0x28, 0x7FE0)
        }
        yield Attack(
            "description", f"{sop_class} {place:08x}", file(made | {place: ("SQ", items(inner))})
        )


def _codes() -> Iterator[Attack]:
    def code(value: str, scheme: str, meaning: str, **more: str) -> bytes:
        made = element(0x00080100, "SH", value.encode()) + element(
            0x00080102, "SH", scheme.encode()
        )
        if "version" in more:
            made += element(0x00080103, "SH", more["version"].encode())
        return made + element(0x00080104, "LO", meaning.encode("latin-1"))

    for tag in (0x00082218, 0x00081032, 0x00540220, 0x00081084, 0x00180012, 0x00540300, 0x00082228):
        for made in (
            code(GIVEN[:9], "SCT", "Brain"), code("12738006", "SCT", f"Brain of {GIVEN}"),
            code(str(NUMBER), "SCT", "Brain"), code("12738006", GIVEN, "Brain"),
            code("12738006", "99KH", REMARK), code("12738006", "SCT", "Brain", version=BIRTH),
            code("12738006", "SCT", NAME), code("12738006", "SCT", PATIENT_ID),
            code("12738006", "SCT", "Brain") + element(0x00080119, "UC", REMARK.encode()),
            code("12738006", "SCT", "Brain") + element(0x00080120, "UR", b"urn:" + GIVEN.encode()),
            code("12738006", "SCT", "Brain") + element(0x0008010F, "CS", GIVEN.upper().encode()),
        ):  # fmt: skip
            yield Attack("code", f"{tag:08x}", file(base() | {tag: ("SQ", items(made))}))
