"""Head, thorax and abdomen of people who do not exist, as tissues on a grid.

Used by the tomography and radiograph series.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from adit.demo.phantoms import Body, Grid, Point, Tissue

Anatomy = Callable[[Grid, int], Body]
"""Paints a body on a grid. The number makes people differ from each other."""


def head(grid: Grid, person: int) -> Body:
    """Paint a head, from the teeth (z = -75) to above the vertex (z = 95)."""
    body = Body(grid, 0.94 + 0.03 * (person % 5))
    body.column(Tissue.MUSCLE, (0, 15), (62, 72), (-200, -40))
    body.ellipsoid(Tissue.FAT, (0, 0, 0), (81, 101, 93))
    body.ellipsoid(Tissue.BONE, (0, 0, 0), (75, 95, 87))
    body.ellipsoid(Tissue.MARROW, (0, 0, 0), (71.5, 91.5, 83.5))
    body.ellipsoid(Tissue.BONE, (0, 0, 0), (70.5, 90.5, 82.5))
    body.ellipsoid(Tissue.WATER, (0, 0, 0), (67, 87, 79))
    _brain(body)
    for side in (-1, 1):
        body.ellipsoid(Tissue.WATER, (11 * side, -18, 10), (6, 26, 12), tilt=0.28 * side)
        body.ellipsoid(Tissue.WATER, (17 * side, 22, 8), (7, 27, 11), tilt=-0.3 * side)
        body.ellipsoid(Tissue.GREY, (12 * side, 10, -4), (9, 15, 11))
        body.ellipsoid(Tissue.GREY, (25 * side, -10, 0), (7, 19, 13), tilt=0.3 * side)
        body.ellipsoid(Tissue.BONE, (60 * side, 22, -50), (16, 26, 20))
        body.ellipsoid(Tissue.AIR, (62 * side, 30, -54), (7, 10, 9))
        body.ellipsoid(Tissue.FAT, (34 * side, -74, -38), (19, 24, 17))
        body.ellipsoid(Tissue.EYE, (34 * side, -82, -38), (13, 13, 13))
        body.ellipsoid(Tissue.BONE, (30 * side, -66, -66), (20, 20, 17))
        body.ellipsoid(Tissue.AIR, (30 * side, -66, -66), (17, 17, 15))
    body.ellipsoid(Tissue.WATER, (0, 6, -4), (2.5, 13, 13))
    body.ellipsoid(Tissue.AIR, (0, -78, -52), (10, 20, 24))
    body.ellipsoid(Tissue.AIR, (0, -88, -14), (16, 6, 12))
    _back_of_the_skull(body)
    if person % 3:
        side = 1 if person % 2 else -1
        body.ellipsoid(Tissue.LESION, (38.0 * side, 22, 20), (11, 15, 12), within=Tissue.WHITE)
        body.ellipsoid(Tissue.LESION, (20.0 * side, -38, 26), (5, 5, 5), within=Tissue.WHITE)
    return body


def _brain(body: Body) -> None:
    x, y, z = body.grid.x[None, None, :], body.grid.y[None, :, None], body.grid.z[:, None, None]
    distance = np.sqrt((x / 65) ** 2 + (y / 85) ** 2 + (z / 77) ** 2)
    angle = np.arctan2(y / 85, x / 65)
    waves = np.sin(17 * angle + 3 * np.sin(z / 12)) + np.sin(11 * angle - z / 7)
    brain = distance <= 1
    body.tissues[brain] = Tissue.GREY
    body.tissues[distance <= 0.86 + 0.045 * waves] = Tissue.WHITE
    body.tissues[brain & (distance > 0.83) & (waves > 1.25)] = Tissue.WATER
    body.tissues[brain & (abs(x) < 1.2) & (distance > 0.55) & (z > -20)] = Tissue.WATER
    midline = brain & (abs(x) > 1.2) & (abs(x) < 4.5) & (distance > 0.5) & (z > -5)
    body.tissues[midline] = Tissue.GREY


def _back_of_the_skull(body: Body) -> None:
    body.ellipsoid(Tissue.WATER, (0, 48, -52), (52, 37, 23))
    body.ellipsoid(Tissue.GREY, (0, 50, -52), (49, 34, 21))
    for side in (-1, 1):
        for layer in range(-3, 4):
            place = (22.0 * side, 50 + 9.0 * layer, -52.0)
            body.ellipsoid(Tissue.WHITE, place, (19, 2.2, 14), tilt=0.12 * side, within=Tissue.GREY)
    body.ellipsoid(Tissue.WATER, (0, 30, -50), (5, 5, 9))
    body.column(Tissue.WHITE, (0, 18), (14, 12), (-110, -22))


def thorax(grid: Grid, person: int) -> Body:
    """Paint a thorax, from the dome of the liver (z = -150) to the shoulders (150)."""
    body = Body(grid, 0.92 + 0.04 * (person % 5))
    rng = np.random.default_rng(1000 + person)
    _trunk(body, 176, 116)
    body.column(Tissue.FAT, (0, 0), (138, 86), (-400, 400))
    _ribs(body)
    for side, reach in ((-1, 60.0), (1, 56.0)):
        body.ellipsoid(Tissue.LUNG, (74.0 * side, 2, -35), (reach, 80, 172))
        body.ellipsoid(Tissue.BONE, (108.0 * side, 84, 70), (42, 4, 75), tilt=-0.55 * side)
        body.ellipsoid(Tissue.BONE, (62.0 * side, -62, 138), (58, 7, 8), tilt=0.4 * side)
    _lung_vessels(body, rng)
    body.ellipsoid(Tissue.LIVER, (-62, -5, -165), (82, 78, 78))
    body.ellipsoid(Tissue.SPLEEN, (88, 40, -165), (36, 36, 52))
    body.ellipsoid(Tissue.BOWEL, (62, -28, -165), (42, 36, 58))
    body.ellipsoid(Tissue.AIR, (62, -46, -160), (30, 16, 42))
    _mediastinum(body)
    body.spine(62, -280, 280)
    body.column(Tissue.BONE, (0, -92), (19, 6), (-60, 120))
    body.column(Tissue.MARROW, (0, -92), (16, 4), (-58, 118))
    side = 1 if person % 2 else -1
    if person % 4 != 3:
        body.ellipsoid(Tissue.LESION, (84.0 * side, 18 - 6.0 * (person % 6), 20), (9, 8, 9))
    _couch(body, 134)
    return body


def _trunk(body: Body, width: float, depth: float) -> None:
    body.column(Tissue.FAT, (0, 0), (width, depth), (-400, 400))
    body.column(Tissue.MUSCLE, (0, 0), (width - 14, depth - 12), (-400, 400))


def _couch(body: Body, y: float) -> None:
    """A curved plate, hollow inside, below the patient."""
    first = int(np.searchsorted(body.grid.y, 110))
    behind = body.tissues[:, first:]
    across = abs(body.grid.x[None, :])
    depth = body.grid.y[first:, None] - y + (across / 34) ** 2
    plate = (depth > 0) & (depth < 9) & (across < 200)
    behind[plate[None] & (behind == Tissue.AIR)] = Tissue.COUCH


def _ribs(body: Body) -> None:
    """Each rib rises towards the spine, so that each slice cuts several ribs."""
    x, y = body.grid.x[None, :], body.grid.y[:, None]
    ring = np.sqrt((x / 143) ** 2 + (y / 91) ** 2)
    angle = np.arctan2(abs(x), y)
    rows, columns = np.nonzero((ring > 0.965) & (ring < 1.05) & (angle < 2.5))
    deep = (ring[rows, columns] > 0.985) & (ring[rows, columns] < 1.03)
    slope = 70 * angle[rows, columns] / np.pi
    for layer, z in zip(body.tissues, body.grid.z, strict=True):
        height = np.mod(z + slope, 25)
        bone = height < 9
        marrow = deep & (height > 1.5) & (height < 7.5)
        layer[rows[bone], columns[bone]] = Tissue.BONE
        layer[rows[marrow], columns[marrow]] = Tissue.MARROW


def _lung_vessels(body: Body, rng: np.random.Generator) -> None:
    for side in (-1, 1):
        hilum = np.array([34.0 * side, 10, 0])
        for _ in range(40):
            way = rng.normal(size=3) * (0.7, 1, 1.5)
            way[0] = abs(way[0]) * side
            way *= rng.uniform(55, 95) / np.linalg.norm(way)
            bend = rng.normal(size=3) * 9
            steps = np.linspace(0.15, 1, 16)[:, None]
            line = hilum + way * steps + bend * np.sin(steps * 3)
            points = [(float(a), float(b), float(c)) for a, b, c in line]
            body.tube(Tissue.VESSEL, points, (3.8, 1.2), within=Tissue.LUNG)


def _mediastinum(body: Body) -> None:
    body.ellipsoid(Tissue.HEART, (26, -22, -62), (58, 46, 60), tilt=0.45)
    body.ellipsoid(Tissue.BLOOD, (40, -20, -66), (24, 17, 34), tilt=0.5)
    body.ellipsoid(Tissue.BLOOD, (-2, -30, -58), (26, 18, 36), tilt=0.3)
    body.column(Tissue.BLOOD, (24, 44), (12, 12), (-400, 60))
    body.column(Tissue.BLOOD, (-4, -14), (15, 15), (-40, 62))
    body.ellipsoid(Tissue.BLOOD, (12, 14, 62), (15, 44, 14), tilt=-0.35)
    body.column(Tissue.BLOOD, (-28, -14), (9, 9), (-60, 130))
    body.ellipsoid(Tissue.BLOOD, (8, -4, 16), (34, 12, 12))
    for side in (-1, 1):
        body.ellipsoid(Tissue.BLOOD, (30.0 * side, 8, 10), (16, 9, 9))
        body.column(Tissue.BLOOD, (20.0 * side, 6), (5, 5), (70, 170))
        points = [(38.0 * side * t, 12 + 4 * t, 34 - 34 * t) for t in np.linspace(0, 1, 14)]
        body.tube(Tissue.AIR, points, (8, 5))
    body.column(Tissue.AIR, (0, 14), (8.5, 9), (30, 400))
    body.column(Tissue.MUSCLE, (6, 33), (7, 6), (-400, 400))


def abdomen(grid: Grid, person: int) -> Body:
    """Paint an abdomen, from the pelvis (z = -160) to the dome of the liver (z = 120)."""
    body = Body(grid, 0.9 + 0.05 * (person % 5))
    rng = np.random.default_rng(2000 + person)
    _trunk(body, 168, 122)
    body.column(Tissue.FAT, (0, -4), (138, 92), (-400, 400))
    _bowel(body, rng)
    body.column(Tissue.MUSCLE, (-38, 58), (19, 18), (-400, 30))
    body.column(Tissue.MUSCLE, (38, 58), (19, 18), (-400, 30))
    body.ellipsoid(Tissue.LIVER, (-62, -14, 62), (78, 76, 76), tilt=0.25)
    body.ellipsoid(Tissue.LIVER, (8, -44, 72), (52, 28, 42), tilt=-0.2)
    body.ellipsoid(Tissue.SPLEEN, (100, 38, 72), (27, 44, 48), tilt=-0.25)
    body.ellipsoid(Tissue.BOWEL, (58, -34, 60), (46, 38, 40))
    body.ellipsoid(Tissue.WATER, (58, -32, 60), (41, 33, 36))
    body.ellipsoid(Tissue.AIR, (56, -52, 62), (32, 14, 28))
    body.ellipsoid(Tissue.BOWEL, (20, 4, 26), (50, 11, 12), tilt=-0.25)
    body.ellipsoid(Tissue.WATER, (-52, -58, 26), (14, 19, 22))
    points = [(-60 - 30 * t, -10 + 25 * t, 60 + 18 * t) for t in np.linspace(-1, 1, 18)]
    body.tube(Tissue.BLOOD, points, (5, 2), within=Tissue.LIVER)
    for side in (-1, 1):
        body.ellipsoid(Tissue.KIDNEY, (66.0 * side, 42, 2), (27, 25, 54), tilt=0.5 * side)
        body.ellipsoid(Tissue.FAT, (58.0 * side, 38, 2), (13, 11, 26), tilt=0.5 * side)
        body.ellipsoid(Tissue.BONE, (98.0 * side, 38, -128), (44, 10, 56), tilt=-0.9 * side)
        body.ellipsoid(Tissue.MARROW, (98.0 * side, 38, -128), (41, 7, 53), tilt=-0.9 * side)
    body.column(Tissue.BLOOD, (14, 38), (10.5, 10.5), (-70, 400))
    body.column(Tissue.BLOOD, (-17, 38), (12, 9), (-70, 400))
    body.spine(68, -110, 280)
    body.ellipsoid(Tissue.BONE, (0, 76, -150), (48, 24, 48))
    body.ellipsoid(Tissue.MARROW, (0, 76, -150), (44, 20, 45))
    body.ellipsoid(Tissue.WATER, (0, -30, -165), (42, 36, 36))
    if person % 3 != 1:
        place = (-78.0 + 9 * (person % 5), 6, 56)
        body.ellipsoid(Tissue.LESION, place, (15, 14, 14), within=Tissue.LIVER)
    _couch(body, 140)
    return body


def _bowel(body: Body, rng: np.random.Generator) -> None:
    frame: list[Point] = [
        (-104, 10, -90),
        (-104, 0, 20),
        (-40, -62, 26),
        (50, -62, 22),
        (106, 10, 36),
    ]
    frame += [(106, 20, -80), (40, 40, -140)]
    for first, last in pairwise(frame):
        line = np.linspace(first, last, 18)
        for n, (x, y, z) in enumerate(line):
            r = 17 + 3.0 * (n % 3)
            body.ellipsoid(Tissue.BOWEL, (float(x), float(y), float(z)), (r, r, r))
            content = Tissue.AIR if rng.random() < 0.4 else Tissue.WATER
            body.ellipsoid(content, (float(x), float(y) - 2, float(z)), (r - 4, r - 5, r - 4))
    for _ in range(70):
        x, y, z = rng.uniform((-75, -70, -150), (75, 20, 0))
        r = rng.uniform(10, 17)
        body.ellipsoid(Tissue.BOWEL, (x, y, z), (r * 1.5, r, r), tilt=float(rng.uniform(0, 3)))
        body.ellipsoid(Tissue.WATER, (x, y, z), (r * 1.2, r * 0.7, r * 0.7))
