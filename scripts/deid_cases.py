"""Leak cases: personal data in every place where a DICOM object can contain them.

Each case is one file with a list of the planted values. All names and numbers are invented. Used by
`deid_corpus`.
"""

from collections.abc import Iterator

from deid_file import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    NAME,
    PLANT,
    ROOT,
    TEXT,
    Case,
    Planted,
    element,
    file,
    header,
    items,
    open_ended,
)
from deid_streams import stream_cases


def leak_cases() -> Iterator[Case]:
    for kind in (_groups, _containers, _nested, _private, _wrong, _texts, _charsets, _syntaxes):
        yield from kind()
    yield from stream_cases()


def _groups() -> Iterator[Case]:
    for group in (0x5000, 0x5002, 0x501E, 0x6000, 0x6002, 0x601E):
        for syntax in (EXPLICIT, IMPLICIT):
            made = header()
            for low, vr in ((0x0022, "LO"), (0x1500, "LO"), (0x3000, "OW"), (0x4000, "LT")):
                made[group << 16 | low] = (vr, NAME)
            kind = "overlay" if group & 0xF000 == 0x6000 else "curve"
            yield Case(kind, f"{group:04x} {syntax}", file(made, syntax), PLANT)
    made = header(t00041130=("CS", b"ZWOELFENDER"), t00080000=("UL", b"ZWOE"))
    planted = (*PLANT, Planted(b"ZWOE", 0x00080000))
    yield Case("group", "directory and group length", file(made), planted)


def _containers() -> Iterator[Case]:
    yield Case("preamble", "text", file(header(), preamble=NAME.ljust(128)), PLANT)
    for tag, vr in ((0x00020016, "AE"), (0x00020017, "AE"), (0x00020018, "AE"), (0x00020026, "UR")):
        meta = element(tag, vr, b"ZWOELFENDER")
        yield Case("file meta", f"{tag:08x}", file(header(), meta=meta), PLANT)
    meta = element(0x00020100, "UI", b"1.2.3") + element(0x00020102, "OB", NAME)
    yield Case("file meta", "private information", file(header(), meta=meta), PLANT)
    for syntax in (EXPLICIT, IMPLICIT):
        behind = element(0x7FE10010, "LO", b"ZWOELF", syntax)
        behind += element(0x7FE11001, "LO", NAME, syntax)
        inside = items(element(0x00100010, "PN", NAME, syntax), syntax=syntax)
        behind += element(0xFFFAFFFA, "SQ", inside, syntax)
        behind += element(0xFFFCFFFC, "OB", NAME, syntax)
        yield Case("behind", f"groups {syntax}", file(header(), syntax, behind=behind), PLANT)
        late = element(0x00104000, "LT", TEXT, syntax) + element(0x00100010, "PN", NAME, syntax)
        yield Case("behind", f"order {syntax}", file(header(), syntax, behind=late), PLANT)
    yield Case("behind", "bytes", file(header(), behind=NAME), PLANT)


def _nested() -> Iterator[Case]:
    name = element(0x00100010, "PN", NAME) + element(0x00104000, "LT", TEXT)
    for tag in (0x00081110, 0x00081115, 0x00081140, 0x00082112, 0x00082218, 0x00400275, 0x00400555,
                0x00189346, 0x00540016, 0x52009229, 0x00409096, 0x00081250):  # fmt: skip
        for content in (element(tag, "SQ", items(name)), open_ended(tag, name)):
            deep = element(0x00081140, "SQ", items(content)) if tag != 0x00081140 else content
            for place, extra in (("top", content), ("inside", deep)):
                made = {t: e for t, e in header().items() if t != 0x00080018 or tag > 0x00080018}
                whole = file({**made, **header()}, extra=extra)
                yield Case("nested", f"{tag:08x} {place}", whole, PLANT)
    icon = element(0x00280010, "US", b"\4\0") + element(0x7FE00010, "OB", NAME)
    yield Case("icon", "top", file(header(t00880200=("SQ", items(icon)))), PLANT)
    inner = items(element(0x00880200, "SQ", items(icon)))
    yield Case("icon", "in a reference", file(header(t00081140=("SQ", inner))), PLANT)
    inner = items(element(0x00081155, "UI", ROOT.encode()) + element(0x7FE00010, "OW", NAME))
    yield Case("icon", "bare pixels", file(header(t00081140=("SQ", inner))), PLANT)


def _private() -> Iterator[Case]:
    blocks = (
        b"SIEMENS CSA HEADER",
        b"SIEMENS MR HEADER",
        b"GEMS_ACQU_01",
        b"Philips Imaging DD 001",
    )
    for group in (0x0009, 0x0019, 0x0029, 0x2001, 0x7053):
        for creator in blocks:
            for syntax in (EXPLICIT, IMPLICIT):
                made = header()
                made[group << 16 | 0x10] = ("LO", creator)
                for low, vr in ((0x100C, "IS"), (0x1001, "PN"), (0x1010, "OB"), (0x10F1, "LO")):
                    made[group << 16 | low] = (vr, NAME)
                name = f"{group:04x} {creator.decode()} {syntax}"
                yield Case("private", name, file(made, syntax), PLANT)
    inner = element(0x00090010, "LO", b"ZWOELFENDER") + element(0x00091001, "LT", TEXT)
    for content in (element(0x00091001, "SQ", items(inner)), open_ended(0x00091001, inner)):
        holder = element(0x00090010, "LO", b"X") + content
        made = header(t00081140=("SQ", items(holder)))
        yield Case("private", "nested", file(made), PLANT)
    unknown = open_ended(0x00091001, element(0x00100010, "PN", NAME, IMPLICIT), vr="UN")
    made = header(t00081140=("SQ", items(element(0x00090010, "LO", b"X") + unknown)))
    yield Case("private", "UN", file(made), PLANT)


def _wrong() -> Iterator[Case]:
    """Values that do not match their VR, and VRs that do not match the attribute."""
    for vr in ("LO", "UN", "OB", "CS", "UI", "DA", "UT"):
        made = header(t00100010=(vr, NAME), t00080090=(vr, NAME), t00081030=(vr, TEXT))
        yield Case("wrong VR", vr, file(made), PLANT)
    for tag, vr in ((0x00180050, "DS"), (0x00200013, "IS"), (0x00180015, "CS"), (0x0020000E, "UI"),
                    (0x00080021, "DA"), (0x00080031, "TM"), (0x0008002A, "DT"), (0x00080060, "CS"),
                    (0x00200052, "UI"), (0x00181160, "SH"), (0x00080201, "SH")):  # fmt: skip
        yield Case("wrong value", f"{tag:08x}", file(header() | {tag: (vr, NAME)}), PLANT)
    for syntax in (EXPLICIT, IMPLICIT):
        inner = element(0x00100010, "PN", NAME, syntax)
        made = header(t00081140=("UN", items(inner, syntax=syntax)))
        yield Case("UN", f"defined {syntax}", file(made, syntax), PLANT)
        made = header(t00402016=("UN", NAME), t00104000=("UN", TEXT))
        yield Case("UN", f"text {syntax}", file(made, syntax), PLANT)
    inner = element(0x00100010, "PN", NAME, IMPLICIT)
    low = {tag: value for tag, value in header().items() if tag < 0x00081140}
    front = b"".join(element(tag, *low[tag]) for tag in sorted(low))
    rest = {tag: value for tag, value in header().items() if tag not in low}
    unknown = front + open_ended(0x00081140, inner, vr="UN")
    data = unknown + b"".join(element(tag, *rest[tag]) for tag in sorted(rest))
    shell = file(header())
    yield Case("UN", "undefined", shell[: shell.index(front)] + data, PLANT)
    unknown = element(0x00092001, "LO", NAME) + element(0x0011FFFF, "LT", TEXT)
    yield Case("private", "without creator", file(header(), extra=unknown), PLANT)
    code = element(0x00080100, "SH", b"ZW1") + element(0x00080102, "SH", b"99HOSPITAL")
    code += element(0x00080104, "LO", b"as Zwoelfender asked")
    yield Case("code", "private scheme", file(header(t00081140=("SQ", items(code)))), PLANT)
    made = header(t00081032=("SQ", items(code)), t00082218=("SQ", items(code)))
    yield Case("code", "procedure", file(made), PLANT)


def _texts() -> Iterator[Case]:
    """An identity typed into elements that may be kept: only a search of the result can find it."""
    made = header(t00100010=("PN", NAME), t00100020=("LO", b"4711-0815"))
    for tag, vr, text in (
        (0x00080070, "LO", b"Zwoelfender"), (0x00081090, "LO", b"Roswitha 1"),
        (0x00181160, "SH", b"ZWOELFENDER"), (0x00180015, "CS", b"ZWOELFENDER"),
        (0x00181210, "SH", b"Zwoelfender"), (0x00181020, "LO", b"4711-0815"),
        (0x00080008, "CS", b"ORIGINAL\\PRIMARY\\ZWOELFENDER"), (0x00185100, "CS", b"ROSWITHA"),
    ):  # fmt: skip
        value = text.rpartition(b"\\")[2].split(b" ")[0]
        yield Case("typed in", f"{tag:08x}", file(made | {tag: (vr, text)}), (Planted(value),))


def _charsets() -> Iterator[Case]:
    samples = [
        (b"ISO_IR 100", "latin-1", "Zwölfenderß^Jörg"),
        (b"ISO_IR 101", "iso8859-2", "Żołądkiewicz^Łucja"),
        (b"ISO_IR 144", "iso8859-5", "Люкceмбypг^Яна"),
        (b"ISO_IR 126", "iso8859-7", "Διονυσιος^Ιασων"),
        (b"ISO_IR 192", "utf-8", "Zwölfender^Østergård"),
        (b"GB18030", "gb18030", "王小东山^丽丽"),
        (b"ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (b"\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (b"\\ISO 2022 IR 149", "korean", "Hong^Gildong=洪^吉洞=홍^길동"),
        (b"ISO_IR 100", "utf-8", "Müllerßohn^Ödön"),
        (b"ISO_IR 192", "latin-1", "Müllerßohn^Ödön"),
        (b"ISO_IR 6", "shift_jis", "表示ソ能^太郎"),
    ]
    # Kanji whose second byte is a backslash or a caret in ISO 2022.
    tricky = [c for c in map(chr, range(0x4E00, 0x6000)) if _has_mark(c)][:6]
    samples += [
        (b"\\ISO 2022 IR 87", "iso2022_jp", f"{tricky[0]}{tricky[1]}^{tricky[2]}{tricky[3]}"),
        (b"\\ISO 2022 IR 87", "iso2022_jp", f"{tricky[4]}{tricky[1]}{tricky[5]}"),
    ]
    for number, (term, codec, text) in enumerate(samples):
        raw = _as_korean(text) if codec == "korean" else text.encode(codec)
        parts = [part for group in text.split("=") for part in group.split("^")]
        words = {part.encode("utf-8") for part in parts if not part.isascii()}
        words |= {_as_korean(part) if codec == "korean" else part.encode(codec) for part in parts}
        planted = tuple(Planted(word) for word in sorted(words) if len(word) > 3)
        made = header(
            t00080005=("CS", term), t00100010=("PN", raw), t00104000=("LT", raw),
            t0008103e=("LO", raw), t00081080=("LO", raw), t00400275=("SQ", items(
                element(0x00321060, "LO", raw))),
        )  # fmt: skip
        yield Case("charset", f"{term.decode()} {number}", file(made), planted)
        made[0x00081090] = ("LO", raw)  # an element that may be kept
        yield Case("charset", f"{term.decode()} {number} kept", file(made), planted)


def _has_mark(kanji: str) -> bool:
    try:
        inner = kanji.encode("iso2022_jp")[3:-3]
    except UnicodeEncodeError:
        return False
    return b"\\" in inner or b"^" in inner


def _as_korean(text: str) -> bytes:
    """Each part in Korean needs its own escape sequence, also after a caret (PS3.5 6.1.2.5.3)."""
    return b"=".join(
        b"^".join(
            part.encode() if part.isascii() else b"\x1b$)C" + part.encode("euc_kr")
            for part in group.split("^")
        )
        for group in text.split("=")
    )


def _syntaxes() -> Iterator[Case]:
    for syntax, kind in ((DEFLATED, "deflated"), (BIG_ENDIAN, "big endian")):
        made = header(
            t00100010=("PN", NAME), t00104000=("LT", TEXT), t00090010=("LO", b"ZWOELFENDER"),
            t00091001=("LT", TEXT), t60004000=("LT", TEXT),
        )  # fmt: skip
        inner = element(0x00100010, "PN", NAME, syntax if syntax == BIG_ENDIAN else EXPLICIT)
        made[0x00081140] = ("SQ", items(inner, syntax=syntax))
        if syntax == BIG_ENDIAN:
            made = {t: (vr, v[::-1] if vr == "US" else v) for t, (vr, v) in made.items()}
        yield Case(kind, "all places", file(made, syntax), PLANT)
        behind = element(0xFFFCFFFC, "OB", NAME, syntax)
        yield Case(kind, "behind pixels", file(made, syntax, behind=behind), PLANT)
