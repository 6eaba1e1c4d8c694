"""Measure the text detection on made-up images: names, dates and IDs in pixels, barcodes, and clean
controls.

    make pixel-corpus            240 images
    make pixel-corpus N=4000     the whole corpus, in about 100 minutes on two cores

Each image takes the way of a transfer: rules, verification, look at the pixels. The table says how
many images with text were released, by size and script, and how many clean ones were withheld. It
ends with 1 if an image with text of 12 pixels or more, or with a barcode, was released. Needs the
extra "ocr".
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import Pool, cpu_count
from pathlib import Path
from random import Random

import cv2
import numpy as np
from barcode_drawing import burn_code, draw_code
from deid_file import Header, file
from deid_victim import base
from numpy.typing import NDArray

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.text_detection.detector import is_installed, shared_detector

Values = NDArray[np.float64]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
CLASSES = {
    "US": "6.1", "SC": "7", "CR": "1", "DX": "1.1", "XA": "12.1", "CT": "2", "MR": "4",
}  # fmt: skip
SIDES = (256, 512, 512, 512, 768, 1024)
SIZES = (8, 9, 10, 11, 12, 14, 16, 20, 24, 32)
CLEAN_SHARE = 4
"""Every fourth image is a clean control."""
CODE_SHARE = 8
"""One image with a barcode or QR code is added for so many others."""
MODULES = {
    "Code 128": (1, 2, 3), "Code 39": (1, 2), "QR Code": (2, 3, 4, 6), "PDF417": (1, 2),
    "Data Matrix": (2, 3, 4), "Aztec": (2, 3, 4),
}  # fmt: skip
"""Pixels of the narrowest bar, or of a square."""
QUIET_ZONE = {"Data Matrix": 1, "PDF417": 2}
"""Modules around a code, as far as it cannot be found without them (ISO/IEC 16022, 15438)."""
HARMLESS = ("R", "L", "10 cm", "120 kV", "5 mAs", "20")
STRUCTURES = ("", "tissue", "curve", "grid", "ticks", "dots", "edge")
"""What clean images show if no harmless text; nothing else in some."""

FIRST = ("Anna", "Jürgen", "Marie", "Thomas", "Sofía", "Björn", "Zoë", "Peter", "Ursula", "Mehmet")
LAST = ("Müller", "Schmidt", "Weiß", "Núñez", "Åkesson", "Kowalski", "Yılmaz", "Strohl", "Özdemir")
CYRILLIC = ("Иванов", "Петрова", "Кузнецов", "Шевченко", "Соколова", "Щербаков")
CYRILLIC_FIRST = ("Анна", "Юрий", "Мария", "Дмитрий", "Жанна")
OTHER_SCRIPTS = {
    "Greek": ("Παπαδόπουλος", "Γεωργίου", "Ξενάκης", "Χριστοδούλου"),
    "Chinese": ("王伟", "李娜", "欧阳修远", "张敏"),
    "Japanese": ("山田太郎", "佐藤花子", "たなか", "ヤマダ タロウ"),
    "Korean": ("김민수", "이영희", "박지훈"),
    "Hebrew": ("דוד כהן", "שרה לוי"),
}
PROMISED = ("Latin", "Cyrillic", "dates", "IDs", "Greek", "Chinese")
"""The exit code depends on these only."""

PROFILE = replace(ConfidentialityProfile.default(), text_detection=TextDetection.IMAGES_AND_SLICES)
CHANGE = Pseudonymization(
    PROFILE, "CORPUS-0001", ProjectKey(b"a key for a corpus without a use"), None,
    RiskDecision.ACCEPT, RiskDecision.ACCEPT,
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One image of the corpus. `text` is empty for clean controls."""

    number: int
    modality: str
    script: str
    size: int
    look: str
    text: str
    side: int
    data: bytes


def background(modality: str, side: int, noise: np.random.Generator) -> Values:
    """Return values of 12 bits that look roughly like the modality."""
    y, x = np.mgrid[:side, :side] / side
    radius = np.hypot(x - 0.5, y - 0.5)
    waves = np.sin(5 * x + noise.uniform(0, 6)) * np.cos(4 * y + noise.uniform(0, 6))
    if modality == "US":
        speckle = cv2.GaussianBlur(noise.rayleigh(1, (side, side)), (5, 3), 0)
        fan = (np.abs(np.arctan2(x - 0.5, y)) < 0.7) & (np.hypot(x - 0.5, y) < 0.9)
        return fan * speckle * 900 * (0.6 + 0.4 * waves)
    if modality == "SC":
        return np.full((side, side), float(noise.choice([0, 800, 2000])))
    if modality in ("CT", "MR"):
        body = (radius < 0.42) * (1000 + 60 * waves) + (np.abs(radius - 0.35) < 0.02) * 700
        spots = (np.hypot(x - 0.6, y - 0.4) < 0.08) * 150
        return body + spots + noise.normal(0, 20 if modality == "CT" else 35, (side, side))
    ribs = (np.sin(40 * y + 8 * (x - 0.5) ** 2) > 0.75) * (300 if modality in ("CR", "DX") else 60)
    return 1000 + 500 * waves + ribs + noise.normal(0, 25, (side, side))


def draw_structure(values: Values, name: str, chance: Random, noise: np.random.Generator) -> Values:
    """Draw what resembles text: a curve such as an ECG, grids, marks of a scale, edges."""
    side = values.shape[0]
    drawn = values.astype(np.float32)
    if name == "tissue":
        grain = chance.choice((16, 24, 40))
        coarse = noise.normal(0, 150, (side // grain + 2,) * 2).astype(np.float32)
        drawn += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    elif name == "curve":
        x = np.arange(side)
        beat = (x / chance.randrange(60, 140)) % 1
        wave = 60 * np.exp(-(((beat - 0.3) / 0.015) ** 2))
        wave += 12 * np.exp(-(((beat - 0.6) / 0.06) ** 2))
        points = np.stack([x, side - 40 - wave], axis=1).round().astype(np.int32)
        cv2.polylines(drawn, [points], False, 4000, 1, cv2.LINE_AA)
    elif name == "grid":
        step = chance.choice((16, 32, 64))
        drawn[::step] = drawn[:, ::step] = 3500
    elif name == "ticks":
        for number, row in enumerate(range(20, side - 20, 12)):
            cv2.line(drawn, (20, row), (32 if number % 5 else 40, row), 3900, 1)
    elif name == "dots":
        for row in range(20, side, 24):
            for column in range(20, side, 24):
                cv2.circle(drawn, (column, row), 2, 200, -1)
    elif name == "edge":
        width = side // chance.randrange(8, 20)
        drawn[:width] = drawn[-width:] = drawn[:, :width] = drawn[:, -width:] = 60
    return drawn.astype(np.float64)


def write(values: Values, text: str, size: int, look: str, chance: Random, font: object) -> Values:
    """Write a text that is brighter or darker than its surroundings; a quarter is turned."""
    side = values.shape[0]
    canvas = np.zeros((side, side, 3), np.uint8)
    turned, tilted = chance.random() < 0.15, chance.random() < 0.1
    width = round(len(text) * size * 0.62) + 4
    place = (
        chance.randrange(2, max(side - width, 3)),
        chance.randrange(size + 2, side - size // 3),
    )
    cv2.putText(canvas, text, place, (255, 255, 255), font, size)
    cover = canvas[..., 0] / 255
    if turned:
        cover = np.rot90(cover, chance.choice((1, 3)))
    elif tilted:
        around = place[0] + width / 2, place[1] - size / 2
        turn = cv2.getRotationMatrix2D(around, chance.uniform(-60, 60), 1)
        cover = cv2.warpAffine(cover, turn, (side, side))
    local = cv2.blur(values, (41, 41))
    ink = {
        "white": np.full_like(values, 4095),
        "grey": local + np.maximum(0.35 * local, 350),
        "inverted": np.full_like(values, 0),
    }[look]
    under = values
    if look == "inverted":  # dark letters on a bright field
        field = cv2.dilate(cover, np.ones((5, 9))) > 0
        under = np.where(field, 3500, values)
    return under * (1 - cover) + ink * cover


def draw_text(script: str, chance: Random) -> tuple[str, str, str, str]:
    """Return the shown text, and name, ID and birth date for the header."""
    first, last = (
        (chance.choice(CYRILLIC_FIRST), chance.choice(CYRILLIC))
        if script == "Cyrillic"
        else ("", chance.choice(OTHER_SCRIPTS[script]))
        if script in OTHER_SCRIPTS
        else (chance.choice(FIRST), chance.choice(LAST))
    )
    number = str(chance.randrange(10**6, 10**8))
    day, month, year = chance.randint(1, 28), chance.randint(1, 12), chance.randint(1930, 2015)
    birth = f"{year}{month:02}{day:02}"
    shown = {
        "dates": chance.choice((f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}")),
        "IDs": chance.choice((number, f"ID: {number}")),
    }.get(script, chance.choice((f"{last}, {first}", f"{last}^{first}", last)).strip(", ^"))
    return shown, f"{last}^{first}", number, birth


@cache
def find_fonts() -> list[cv2.FontFace]:
    paths = sorted(Path("/usr/share/fonts").rglob("DejaVuSans*.ttf"))[:6]
    return [cv2.FontFace("sans"), *(cv2.FontFace(str(path)) for path in paths)]


def make_image(n: int, seed: int) -> Sample:
    """Return image `n` of a corpus. It does not depend on the others."""
    chance, noise = Random(f"{seed}/{n}"), np.random.default_rng([seed, n])
    fonts = find_fonts()
    scripts = ("Latin", "Latin", "Latin", "Cyrillic", "dates", "IDs", "other")
    modality = list(CLASSES)[n % len(CLASSES)]
    side = chance.choice(SIDES)
    values = background(modality, side, noise)
    look = chance.choice(("white", "grey", "inverted"))
    size = chance.choice(SIZES)
    clean = n % CLEAN_SHARE == CLEAN_SHARE - 1
    script = "clean" if clean else chance.choice(scripts)
    if script == "other":
        script, size = chance.choice(list(OTHER_SCRIPTS)), chance.choice((*SIZES, 48, 64))
    shown, name, patient_id, birth = draw_text(script, chance)
    if clean:
        look = chance.choice(STRUCTURES) if chance.random() < 0.5 else look
        shown, size = "" if look in STRUCTURES else chance.choice(HARMLESS), max(size, 14)
    if look in STRUCTURES:
        values = draw_structure(values, look, chance, noise)
    if shown:
        usable = (
            fonts[:1] if script in OTHER_SCRIPTS
            else fonts[1:] if script == "Cyrillic" and len(fonts) > 1
            else fonts
        )  # fmt: skip
        drawn = shown[::-1] if script == "Hebrew" else shown  # OpenCV draws left to right
        values = write(values, drawn, size, look, chance, chance.choice(usable))
    data = encode(modality, values, (name, patient_id, birth), n)
    return Sample(n, modality, script, size, look, "" if clean else shown, side, data)


def make_image_with_code(n: int, seed: int) -> Sample:
    """Return an image with a patient ID in a barcode or matrix code, and no text."""
    chance, noise = Random(f"{seed}/{n}"), np.random.default_rng([seed, n])
    modality, kind = list(CLASSES)[n % len(CLASSES)], list(MODULES)[n % len(MODULES)]
    module, patient_id = chance.choice(MODULES[kind]), str(chance.randrange(10**6, 10**8))
    height = chance.choice((16, 24, 40)) // module
    code = draw_code(kind, patient_id, height)
    look, turns = chance.choice(("white", "black", "anatomy")), chance.choice((0, 1))
    dark, bright = (3900, 60) if look == "black" else (60, 3900)
    margin = QUIET_ZONE.get(kind, 0) if look == "anatomy" else 4
    values = background(modality, 512, noise)
    place = chance.randrange(40), chance.randrange(40)
    values = burn_code(
        values, np.rot90(code, turns), place,
        module=module, dark=dark, bright=bright, margin=margin,
    )  # fmt: skip
    data = encode(modality, values, ("A^B", patient_id, "19500101"), n)
    return Sample(n, modality, kind, module, look, patient_id, 512, data)


def encode(modality: str, values: Values, patient: tuple[str, str, str], number: int) -> bytes:
    name, patient_id, birth = (value.encode() for value in patient)
    side = values.shape[0].to_bytes(2, "little")
    two = (12).to_bytes(2, "little")
    made: Header = base(_STORAGE + CLASSES[modality]) | {
        0x00080005: ("CS", b"ISO_IR 192"),
        0x00080018: ("UI", f"1.2.3.4.{number}".encode()),
        0x0020000E: ("UI", f"1.2.3.{number}".encode()),
        0x00100010: ("PN", name),
        0x00100020: ("LO", patient_id),
        0x00100030: ("DA", birth),
        0x00280002: ("US", b"\1\0"),
        0x00280010: ("US", side),
        0x00280011: ("US", side),
        0x00280100: ("US", b"\x10\0"),
        0x00280101: ("US", two),
        0x00280102: ("US", b"\x0b\0"),
        0x00280103: ("US", b"\0\0"),
        0x00280301: ("CS", b"NO"),
        0x7FE00010: ("OW", values.round().clip(0, 4095).astype("<u2").tobytes()),
    }
    return file(made)


@dataclass(frozen=True)
class Outcome:
    """What happened to an image: the code of the reason, empty if it is released.

    `cpu_s` is the processor time of the detector, None if it had to be started or ended.
    """

    sample: Sample
    code: str
    cpu_s: float | None


def send(made: tuple[Callable[[int, int], Sample], int, int]) -> Outcome:
    """Make one image and prepare it for leaving."""
    make, number, seed = made
    sample = make(number, seed)
    image, code = part10.parse_file(sample.data), ""
    before = child_seconds()
    try:
        InstancePseudonymizer(CHANGE).prepare_outgoing(image)
    except InstanceWithheld as held:
        code = held.message.code
    after = child_seconds()
    cpu_s = None if before is None or after is None else after - before
    return Outcome(replace(sample, data=b""), code, cpu_s)


def check_series(modality: str, count: int) -> float:
    """Return the processor time that the check of one clean series takes, without start-up."""
    send((make_image, 0, 1))  # starts the detector
    noise = np.random.default_rng(1)
    values = background(modality, 512, noise)
    outgoing, without = (
        InstancePseudonymizer(replace(CHANGE, profile=profile))
        for profile in (PROFILE, ConfidentialityProfile.default())
    )
    before, own = child_seconds() or 0, 0.0
    for number in range(count):
        if number % 25 == 24:
            values = background(modality, 512, noise)  # another part of the body
        moved = np.roll(values, number, axis=0) + noise.normal(0, 20, values.shape)
        image = part10.parse_file(encode(modality, moved, ("A^B", "1234567", "19500101"), 1))
        for one, sign in ((outgoing, 1), (without, -1)):
            began = time.process_time()
            one.prepare_outgoing(image)
            own += sign * (time.process_time() - began)
    return (child_seconds() or 0) - before + own


def child_seconds() -> float | None:
    """Return the processor time of the detector so far, None if it does not run."""
    if shared_detector().pid is None:
        return None
    fields = Path(f"/proc/{shared_detector().pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / 100  # with tesseract, which it has waited for


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--image", type=int, help="only this image")
    options = parser.parse_args()
    if options.number < 1:
        parser.error("--number must be at least 1")
    if not is_installed():
        print("The extra ocr is not installed: make pixel-corpus prepares it.", file=sys.stderr)
        return 2
    numbers = [options.image] if options.image is not None else range(options.number)
    made = [(make_image, n, options.seed) for n in numbers]
    if options.image is None:
        made += [
            (make_image_with_code, n, options.seed) for n in range(options.number // CODE_SHARE)
        ]
    began = time.monotonic()
    with Pool(min(len(made), cpu_count())) as processes:
        outcomes = processes.map(send, made, chunksize=1)
    return report(outcomes, time.monotonic() - began)


def report(outcomes: list[Outcome], lasted: float) -> int:
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    missed, unexpected = [], []
    for one in outcomes:
        sample, code = one.sample, one.code
        size = (
            "clean" if not sample.text
            else "codes" if sample.script in MODULES
            else "8 to 11 px" if sample.size < 12
            else "12 px and more"
        )  # fmt: skip
        shows = (sample.look,) if sample.look in STRUCTURES and sample.look else ()
        for group in ("all", sample.modality, sample.script, *shows):
            rows[size, group].append(code)
        if sample.text and not code:
            missed.append(sample)
        if (code and not code.startswith("text-found")) or (code and not sample.text):
            unexpected.append((sample, code))
    print(
        f"{'images':<16}{'group':<10}{'number':>8}{'withheld':>10}{'identity':>10}{'released':>10}"
    )
    for (size, group), codes in sorted(rows.items()):
        certain = sum(code == "text-found.identity" for code in codes)
        held = sum(bool(code) for code in codes)
        print(f"{size:<16}{group:<10}{len(codes):>8}{held:>10}{certain:>10}{len(codes) - held:>10}")
    for sample in missed[:400]:
        print(
            f"released: {sample.number} {sample.modality} {sample.script} {sample.size} px "
            f"{sample.look}: {sample.text}"
        )
    for sample, code in unexpected[:400]:
        print(
            f"withheld: {sample.number} {sample.modality} {sample.script} {sample.size} px "
            f"{sample.look}: {code}"
        )
    share = sorted(
        one.cpu_s for one in outcomes if one.sample.side == 512 and one.cpu_s is not None
    )
    if share:
        print(
            f"CPU of a 512 x 512 frame: {1000 * sum(share) / len(share):.0f} ms on average, "
            f"{1000 * share[-1]:.0f} ms at most, {len(share)} frames"
        )
    print(f"{lasted:.0f} s")
    for modality in ("CT", "MR"):
        for count in (60, 200):
            print(
                f"CPU of the check of {count} {modality} images: {check_series(modality, count):.2f} s"
            )
    shared_detector().close()
    broken = any(
        one.script in MODULES or (one.size >= 12 and one.script in PROMISED) for one in missed
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
