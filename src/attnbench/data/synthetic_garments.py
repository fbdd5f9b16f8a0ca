"""Grey pictures of garments drawn from random parameters, in the ten classes of Fashion-MNIST.

A picture is a few soft shapes in the garment's own coordinates, which are shifted, turned and scaled against the
picture. The ranges of neighbouring classes overlap: a shirt without buttons is a t-shirt to anybody, so that no model
can be right about every picture. Only arithmetic and square roots are used, no sine or exponential, whose last bit
differs between processors: a generator's pictures are the same bytes on all of them.
"""

# Shapes: N pictures, H rows, W columns. An Array below is NHW (of pixels) or N11 (a number for each picture).
# Units: garments live in -1..1 to the right (x) and down (y), 14 pixels a unit. A distance is negative inside.

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Number = Array | float
Range = tuple[float, float]

_SIDE = 28
_EDGE = 0.09  # units over which a shape fades out: 1.3 pixels
_TAN_6_DEGREES = 0.105  # rotations by up to 12 degrees, as the tangent of half the angle
_CHUNK = 256  # pictures drawn together: their arrays stay in the processor's cache


def draw(count: int, random: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """pixels_NHW (count, 28, 28), 0 to 255, and labels_N, indices of CLASSES.

    The classes are balanced to within one and shuffled; the same generator state gives the same pictures.
    """
    labels_N = random.permutation(np.arange(count) % len(_DRAWINGS))
    pixels_NHW = np.empty((count, _SIDE, _SIDE), dtype=np.uint8)
    for label, drawing in enumerate(_DRAWINGS.values()):
        places = np.flatnonzero(labels_N == label)
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            canvas = _Canvas(len(chunk), random, mirrored=drawing in _SHOES)
            drawing(canvas)
            pixels_NHW[chunk] = canvas.photograph()
    return pixels_NHW, labels_N


class _Canvas:
    """Pictures of one class in the making: where their pixels lie on the garment, and how bright they are."""

    def __init__(self, count: int, random: np.random.Generator, *, mirrored: bool) -> None:
        self._count, self._random = count, random
        pixels_W = (np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2) / (_SIDE / 2)
        x = pixels_W[None, None, :] - self.uniform(-0.16, 0.16)
        y = pixels_W[None, :, None] - self.uniform(-0.16, 0.16)
        half = self.uniform(-_TAN_6_DEGREES, _TAN_6_DEGREES)
        size = (1 + half * half) * self.uniform(0.8, 1.12)
        cos, sin = (1 - half * half) / size, 2 * half / size
        side = 1 - 2 * self.maybe(0.5 if mirrored else 0)
        self.x: Array = (cos * x + sin * y) * side
        self.y: Array = cos * y - sin * x
        self.across: Array = np.abs(self.x)  # what is drawn with it is drawn left and right
        self.tone: Array = np.zeros_like(self.x)
        self.contrast: Array = 1 - 2 * self.maybe(0.5)  # trimmings are darker than the cloth, or brighter

    def uniform(self, low: float, high: float) -> Array:
        """A number for each picture."""
        return self._random.random((self._count, 1, 1), dtype=np.float32) * (high - low) + low

    def maybe(self, chance: float) -> Array:
        """1 for so many of the pictures, else 0."""
        return (self.uniform(0, 1) < chance).astype(np.float32)

    def add(self, shape: Array, tone: float = 1.0) -> None:
        """Cloth where the shape is."""
        self.tone = np.maximum(self.tone, shape * tone)

    def cut(self, shape: Array) -> None:
        """No cloth where the shape is."""
        self.tone *= 1 - shape

    def trim(self, shape: Array, strength: Range, there: Number = 1.0) -> None:
        """Darkens (or brightens) the cloth where the shape is."""
        self.tone *= 1 - shape * (self.uniform(*strength) * self.contrast * there)

    def photograph(self) -> npt.NDArray[np.uint8]:
        """The pictures, with stripes, uneven light and noise."""
        upright = self.maybe(0.3)
        place = upright * self.x + (1 - upright) * self.y + self.uniform(-0.4, 0.4) * self.x
        stripes = _wave(place / self.uniform(0.2, 0.7) + self.uniform(0, 1))
        self.tone *= 1 - stripes * (self.uniform(0, 0.12) + self.maybe(0.3) * self.uniform(0, 0.5))
        self.tone *= (1 - self.uniform(-0.35, 0.35) * self.x) * (1 - self.uniform(-0.35, 0.35) * self.y)
        light = self.tone * self.uniform(0.3, 0.9)
        grain = self._random.random(light.shape, dtype=np.float32) - self._random.random(light.shape, dtype=np.float32)
        light += grain * (0.02 + self.uniform(0.03, 0.12) * light)
        pixels_NHW: npt.NDArray[np.uint8] = np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)
        return pixels_NHW


def _soft(*distances: Array) -> Array:
    """1 inside of all, 0 outside of any, and a smooth edge between."""
    inside: Array = np.clip(0.5 - reduce(np.maximum, distances) / _EDGE, 0, 1)
    return inside


def _ramp(at: Array, start: Number, end: Number) -> Array:
    """0 before start, 1 after end, straight between."""
    return np.clip((at - start) / (end - start), 0, 1)


def _wave(phase: Array) -> Array:
    """A triangle wave: 1 at whole numbers, 0 halfway."""
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def _line(at: Array, width: Number) -> Array:
    """Where a coordinate is near 0; as below, `width` is half of the whole."""
    return _soft(np.abs(at) - width)


def _box(x: Array, y: Array, width: Number, height: Number) -> Array:
    """A rectangle around 0, 0."""
    return _soft(np.abs(x) - width, np.abs(y) - height)


def _oval(x: Array, y: Array, width: Number, height: Number) -> Array:
    """An ellipse around 0, 0."""
    return _soft((np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1) * np.minimum(width, height))


def _limb(x: Array, y: Array, length: Number, slope: Number, widths: tuple[float, Number]) -> Array:
    """A strip down from 0, 0 that leans `slope` to the right for each unit; its widths at its start and end."""
    norm = np.sqrt(1 + slope * slope)
    along, aside = (x * slope + y) / norm, (x - y * slope) / norm
    width = widths[0] + (widths[1] - widths[0]) * _ramp(along, 0, length)
    return _soft(np.abs(aside) - width, along - length, -along - widths[0])


def _top(canvas: _Canvas, sleeve: Range, hem: Range, waist: Range, flare: Range, ribs: float) -> None:
    """What shirts, coats and dresses share: body, sleeves and neckline, and by chance ribs above the hem."""
    y, across, bottom = canvas.y, canvas.across, canvas.uniform(*hem)
    shoulder, middle, wider = canvas.uniform(0.36, 0.48), canvas.uniform(*waist), canvas.uniform(*flare)
    width = shoulder + (middle - shoulder) * _ramp(y, -0.65, -0.1) + wider * _ramp(y, -0.1, bottom)
    length = canvas.uniform(*sleeve)
    slope = canvas.uniform(0.8, 1.2) * (1 - 0.66 * _ramp(length, 0.2, 0.9))  # long ones hang, short ones stand out
    arm = _limb(across - shoulder + 0.1, y + 0.59, length, slope, (0.14, canvas.uniform(0.07, 0.11)))
    canvas.add(arm * (length > 0.12), 0.9)
    canvas.add(_soft(across - width, canvas.uniform(0.15, 0.35) * across - 0.78 - y, y - bottom))
    depth = canvas.uniform(0.06, 0.22)
    v_neck = _soft(across - 0.2 + 0.2 * (y + 0.8) / (2 * depth + 0.05))
    round_neck = _oval(across, y + 0.78, canvas.uniform(0.13, 0.24), depth)
    canvas.cut(np.where(canvas.maybe(0.25) > 0, v_neck, round_neck))
    canvas.trim(_line(y - bottom + 0.14, 0.025), (0.25, 0.6), canvas.maybe(ribs))


def _opening(canvas: _Canvas, chance: float, width: Range, strength: Range) -> Array:
    """An opening down the front. Returns where there is one."""
    there = canvas.maybe(chance)
    canvas.trim(_line(canvas.x - canvas.uniform(-0.04, 0.04), canvas.uniform(*width)), strength, there)
    return there


def _buttons(canvas: _Canvas, strength: Range, there: Array) -> None:
    spacing = canvas.uniform(0.2, 0.3)
    place = (canvas.y + 0.5) / spacing
    offset = (place - np.rint(place)) * spacing
    canvas.trim(_oval(canvas.x - canvas.uniform(0.03, 0.07), offset, 0.055, 0.055), strength, there)


def _collar(canvas: _Canvas, there: Array) -> None:
    """Two leaves beside the neck, and their edge."""
    leaf = _limb(canvas.across - 0.2, canvas.y + 0.76, 0.25, canvas.uniform(-0.7, -0.3), (0.075, 0.05))
    canvas.add(leaf * there, 0.8)
    canvas.trim(leaf, (-0.5, -0.2), there)
    canvas.trim(_limb(canvas.across - 0.33, canvas.y + 0.68, 0.32, -0.6, (0.045, 0.045)), (0.4, 0.9), there)


def _t_shirt(canvas: _Canvas) -> None:
    _top(canvas, sleeve=(0.18, 0.6), hem=(0.4, 0.74), waist=(0.32, 0.46), flare=(-0.02, 0.1), ribs=0.08)
    _opening(canvas, 0.03, (0.0, 0.02), (0.2, 0.5))
    x, y = canvas.x - canvas.uniform(-0.06, 0.06), canvas.y + canvas.uniform(0.0, 0.3)
    size = canvas.uniform(0.1, 0.28), canvas.uniform(0.06, 0.25)
    motif = np.where(canvas.maybe(0.5) > 0, _box(x, y, *size), _oval(x, y, *size))
    canvas.trim(motif, (0.3, 0.8), canvas.maybe(0.55))


def _trouser(canvas: _Canvas) -> None:
    y, across = canvas.y, canvas.across
    top, crotch, bottom = canvas.uniform(-0.85, -0.7), canvas.uniform(-0.45, -0.15), canvas.uniform(0.65, 0.95)
    hip, foot, gap = canvas.uniform(0.22, 0.36), canvas.uniform(0.12, 0.3), canvas.uniform(0.0, 0.16)
    waist, down = hip - canvas.uniform(0.0, 0.08), _ramp(y, crotch, bottom)
    outer = waist + (hip - waist) * _ramp(y, top, crotch) + (foot + gap - hip) * down
    inner = np.where(y > crotch, gap * (0.25 + 0.75 * down), -1)
    canvas.add(_soft(across - outer, inner - across, top - y, y - bottom))
    canvas.cut(_soft(across - 0.02, crotch - y) * canvas.uniform(0.3, 0.9))
    canvas.trim(_line(y - top - 0.14, 0.01), (0.2, 0.6), canvas.maybe(0.5))


def _pullover(canvas: _Canvas) -> None:
    _top(canvas, sleeve=(0.75, 1.2), hem=(0.4, 0.75), waist=(0.34, 0.5), flare=(-0.06, 0.06), ribs=0.75)
    _buttons(canvas, (0.0, 0.5), _opening(canvas, 0.05, (0.0, 0.02), (0.2, 0.6)))
    canvas.trim(_oval(canvas.x, canvas.y + 0.78, 0.3, 0.28), (0.2, 0.5), canvas.maybe(0.4))


def _dress(canvas: _Canvas) -> None:
    _top(canvas, sleeve=(-0.3, 0.75), hem=(0.7, 0.92), waist=(0.18, 0.34), flare=(0.02, 0.35), ribs=0.1)
    canvas.trim(_line(canvas.y + canvas.uniform(0.0, 0.2), 0.03), (0.3, 0.8), canvas.maybe(0.4))
    _opening(canvas, 0.1, (0.0, 0.02), (0.2, 0.5))


def _coat(canvas: _Canvas) -> None:
    _top(canvas, sleeve=(0.85, 1.25), hem=(0.6, 0.92), waist=(0.36, 0.5), flare=(-0.02, 0.14), ribs=0.15)
    there = _opening(canvas, 0.92, (0.02, 0.08), (0.5, 1.0))
    lapel = _limb(canvas.across - 0.2, canvas.y + 0.76, canvas.uniform(0.35, 0.75), -0.3, (0.035, 0.035))
    canvas.trim(lapel, (0.3, 0.8), there * canvas.maybe(0.7))
    _buttons(canvas, (0.2, 0.6), there * canvas.maybe(0.4))
    pocket = _box(canvas.across - 0.24, canvas.y - canvas.uniform(0.05, 0.3), 0.09, 0.02)
    canvas.trim(pocket, (0.3, 0.7), canvas.maybe(0.5))


def _shirt(canvas: _Canvas) -> None:
    _top(canvas, sleeve=(0.25, 1.2), hem=(0.45, 0.78), waist=(0.32, 0.46), flare=(-0.02, 0.1), ribs=0.08)
    there = _opening(canvas, 0.88, (0.0, 0.03), (0.4, 0.9))
    _buttons(canvas, (-0.5, 0.6), there * canvas.maybe(0.7))
    _collar(canvas, np.maximum(there, canvas.maybe(0.2)) * canvas.maybe(0.9))
    pocket = _box(canvas.x - 0.2, canvas.y + canvas.uniform(0.15, 0.3), 0.08, 0.08)
    canvas.trim(pocket, (0.15, 0.4), canvas.maybe(0.3))


def _shoe(canvas: _Canvas, shaft: Range, tread: Range) -> tuple[Array, Array]:
    """A closed shoe with its toe to the left, on its sole. Returns y of the top and of the sole."""
    x, y, ground, thick = canvas.x, canvas.y, canvas.uniform(0.4, 0.6), canvas.uniform(*tread)
    sole, top = ground - thick, ground - canvas.uniform(*shaft)
    toe, ankle = canvas.uniform(0.15, 0.28), canvas.uniform(-0.1, 0.25)
    instep = np.minimum(canvas.uniform(0.3, 0.5), sole - top)
    height = toe * (0.4 + 0.6 * _ramp(x, -0.85, -0.6)) + (instep - toe) * _ramp(x, -0.55, ankle)
    height = height + (sole - top - instep) * _ramp(x, ankle, ankle + canvas.uniform(0.1, 0.3))
    canvas.add(_soft(sole - height - y, y - sole, np.abs(x + 0.05) - 0.78))
    canvas.add(_box(x + 0.05, y - (sole + ground) / 2, 0.82, thick / 2))
    return top, sole


def _sandal(canvas: _Canvas) -> None:
    x, y, ground, thick = canvas.x, canvas.y, canvas.uniform(0.4, 0.6), canvas.uniform(0.04, 0.1)
    heel = canvas.uniform(0.0, 0.5) * canvas.maybe(0.6)
    floor = ground - thick - heel * _ramp(x, -0.4, 0.6)
    canvas.add(_box(x + 0.07, y - floor, 0.78, thick))
    canvas.add(_soft(np.abs(x - canvas.uniform(0.6, 0.75)) - canvas.uniform(0.05, 0.14), floor - y, y - ground))
    height = (0.2 + canvas.uniform(0.1, 0.5) * _ramp(x, -0.5, 0.6)) * _ramp(x, -0.85, -0.6)
    spacing, share = canvas.uniform(0.28, 0.6), canvas.uniform(0.2, 0.75)
    bands = _wave((x + canvas.uniform(-0.4, 0.4) * y) / spacing + canvas.uniform(0, 1))
    straps = _soft((bands - share) * spacing / 2, np.abs(x) - 0.7)
    canvas.add(straps * _soft(floor - height - y, y - floor), 0.9)
    canvas.add(_box(x + 0.05, floor - height - y, canvas.uniform(0.3, 0.65), 0.03), 0.9)


def _sneaker(canvas: _Canvas) -> None:
    top, sole = _shoe(canvas, shaft=(0.42, 0.85), tread=(0.08, 0.2))
    canvas.trim(_line(canvas.y - sole, 0.015), (0.3, 0.8), canvas.maybe(0.8))
    lacing = _wave((canvas.x - canvas.y) / 0.16) * _oval(canvas.x + 0.15, canvas.y - (top + sole) / 2, 0.25, 0.2)
    canvas.trim(lacing, (-0.6, 0.6), canvas.maybe(0.6))
    mark = _limb(canvas.x - 0.15, canvas.y - sole + 0.3, 0.25, canvas.uniform(-1, 1), (0.04, 0.04))
    canvas.trim(mark, (-0.6, 0.7), canvas.maybe(0.5))


def _ankle_boot(canvas: _Canvas) -> None:
    top, sole = _shoe(canvas, shaft=(0.82, 1.35), tread=(0.06, 0.16))
    canvas.cut(_soft(np.abs(canvas.x - 0.05) - canvas.uniform(0.1, 0.25), sole + 0.03 - canvas.y) * canvas.maybe(0.7))
    canvas.trim(_line(canvas.y - top - 0.15, 0.02), (0.2, 0.6), canvas.maybe(0.4))
    canvas.trim(_soft(np.abs(canvas.x - 0.35) - 0.02, canvas.y - sole + 0.1), (0.2, 0.7), canvas.maybe(0.4))


def _bag(canvas: _Canvas) -> None:
    middle, width, height = canvas.uniform(0.1, 0.35), canvas.uniform(0.45, 0.78), canvas.uniform(0.25, 0.5)
    x, y = canvas.x, canvas.y - middle + height  # 0 is the upper edge of the body
    wide, high = canvas.uniform(0.2, 0.5), canvas.uniform(0.15, 0.7)
    radius = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    handle = _soft(np.abs(radius - 1) * np.minimum(wide, high) - canvas.uniform(0.03, 0.08), y)
    canvas.add(handle * canvas.maybe(0.85), 0.8)
    canvas.add(_soft(canvas.across - width - canvas.uniform(-0.12, 0.15) * (y - height), -y, y - 2 * height))
    flap = canvas.uniform(0.15, 0.5)
    canvas.trim(_line(y - flap, 0.015), (0.3, 0.8), canvas.maybe(0.6))
    canvas.trim(_box(x, y - flap, 0.07, 0.06), (-0.7, 0.7), canvas.maybe(0.5))


_SHOES = (_sandal, _sneaker, _ankle_boot)
_DRAWINGS: dict[str, Callable[[_Canvas], None]] = {
    "t-shirt": _t_shirt,
    "trouser": _trouser,
    "pullover": _pullover,
    "dress": _dress,
    "coat": _coat,
    "sandal": _sandal,
    "shirt": _shirt,
    "sneaker": _sneaker,
    "bag": _bag,
    "ankle boot": _ankle_boot,
}

CLASSES: tuple[str, ...] = tuple(_DRAWINGS)  # in the order of Fashion-MNIST
