"""Gray images of garments, drawn from random parameters in the ten classes of Fashion-MNIST.

An image is made of a few soft shapes in the garment's own coordinates, which are shifted, rotated and scaled. The
parameter ranges of similar classes overlap (a shirt without buttons looks like a t-shirt), so no model can classify
every image correctly. Only arithmetic and square roots are used: the last bit of sine and exponential differs between
processors, and the images must be equal bytes on all of them.
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


def draw_garments(count: int, random: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draw random garments, balanced over the classes to within one and shuffled.

    Args:
        count: number of images.
        random: generator; the same state gives the same images.

    Returns:
        pixels_NHW (count, 28, 28), 0 to 255, and labels_N, indices of CLASSES.
    """
    labels_N = random.permutation(np.arange(count) % len(_DRAWINGS))
    pixels_NHW = np.empty((count, _SIDE, _SIDE), dtype=np.uint8)
    for label, drawing in enumerate(_DRAWINGS.values()):
        places = np.flatnonzero(labels_N == label)
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            canvas = _Canvas(len(chunk), random, mirrored=drawing in _SHOES)
            drawing(canvas)
            pixels_NHW[chunk] = canvas.render()
    return pixels_NHW, labels_N


class _Canvas:
    """Images of one class while they are drawn: coordinates of each pixel on the garment, and brightness."""

    def __init__(self, count: int, random: np.random.Generator, *, mirrored: bool) -> None:
        self._count, self._random = count, random
        pixels_W = (np.arange(_SIDE, dtype=np.float32) - (_SIDE - 1) / 2) / (_SIDE / 2)
        x = pixels_W[None, None, :] - self.draw_uniform(-0.16, 0.16)
        y = pixels_W[None, :, None] - self.draw_uniform(-0.16, 0.16)
        half = self.draw_uniform(-_TAN_6_DEGREES, _TAN_6_DEGREES)
        size = (1 + half * half) * self.draw_uniform(0.8, 1.12)
        cos, sin = (1 - half * half) / size, 2 * half / size
        side = 1 - 2 * self.draw_indicator(0.5 if mirrored else 0)
        self.x: Array = (cos * x + sin * y) * side
        self.y: Array = cos * y - sin * x
        self.across: Array = np.abs(self.x)  # mirrored: drawn left and right
        self.tone: Array = np.zeros_like(self.x)
        self.contrast: Array = 1 - 2 * self.draw_indicator(0.5)  # trimmings are darker than the cloth, or brighter

    def draw_uniform(self, low: float, high: float) -> Array:
        """Draw a uniform random number for each image."""
        return self._random.random((self._count, 1, 1), dtype=np.float32) * (high - low) + low

    def draw_indicator(self, chance: float) -> Array:
        """Draw 1 with probability `chance` for each image, else 0."""
        return (self.draw_uniform(0, 1) < chance).astype(np.float32)

    def add_cloth(self, shape: Array, tone: float = 1.0) -> None:
        """Add cloth inside the shape."""
        self.tone = np.maximum(self.tone, shape * tone)

    def remove_cloth(self, shape: Array) -> None:
        """Remove cloth inside the shape."""
        self.tone *= 1 - shape

    def change_brightness(self, shape: Array, strength: Range, there: Number = 1.0) -> None:
        """Darken or brighten the cloth inside the shape."""
        self.tone *= 1 - shape * (self.draw_uniform(*strength) * self.contrast * there)

    def render(self) -> npt.NDArray[np.uint8]:
        """Return the images with stripes, uneven light and noise."""
        upright = self.draw_indicator(0.3)
        place = upright * self.x + (1 - upright) * self.y + self.draw_uniform(-0.4, 0.4) * self.x
        stripes = _compute_triangle_wave(place / self.draw_uniform(0.2, 0.7) + self.draw_uniform(0, 1))
        self.tone *= 1 - stripes * (self.draw_uniform(0, 0.12) + self.draw_indicator(0.3) * self.draw_uniform(0, 0.5))
        self.tone *= (1 - self.draw_uniform(-0.35, 0.35) * self.x) * (1 - self.draw_uniform(-0.35, 0.35) * self.y)
        light = self.tone * self.draw_uniform(0.3, 0.9)
        grain = self._random.random(light.shape, dtype=np.float32) - self._random.random(light.shape, dtype=np.float32)
        light += grain * (0.02 + self.draw_uniform(0.03, 0.12) * light)
        pixels_NHW: npt.NDArray[np.uint8] = np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)
        return pixels_NHW


def _compute_soft_shape(*distances: Array) -> Array:
    """Return 1 inside all distances, 0 outside any, with a smooth edge."""
    inside: Array = np.clip(0.5 - reduce(np.maximum, distances) / _EDGE, 0, 1)
    return inside


def _compute_ramp(at: Array, start: Number, end: Number) -> Array:
    """Return 0 before start, 1 after end, and linear values between."""
    return np.clip((at - start) / (end - start), 0, 1)


def _compute_triangle_wave(phase: Array) -> Array:
    """Return a triangle wave: 1 at whole numbers, 0 halfway."""
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def _compute_line(at: Array, width: Number) -> Array:
    """Return a strip where a coordinate is near 0; `width` is half of the whole width, as below."""
    return _compute_soft_shape(np.abs(at) - width)


def _compute_box(x: Array, y: Array, width: Number, height: Number) -> Array:
    """Return a rectangle around (0, 0)."""
    return _compute_soft_shape(np.abs(x) - width, np.abs(y) - height)


def _compute_ellipse(x: Array, y: Array, width: Number, height: Number) -> Array:
    """Return an ellipse around (0, 0)."""
    return _compute_soft_shape((np.sqrt((x / width) ** 2 + (y / height) ** 2) - 1) * np.minimum(width, height))


def _compute_strip(x: Array, y: Array, length: Number, slope: Number, widths: tuple[float, Number]) -> Array:
    """Return a strip downwards from (0, 0) that moves `slope` to the right for each unit, with widths at both ends."""
    norm = np.sqrt(1 + slope * slope)
    along, aside = (x * slope + y) / norm, (x - y * slope) / norm
    width = widths[0] + (widths[1] - widths[0]) * _compute_ramp(along, 0, length)
    return _compute_soft_shape(np.abs(aside) - width, along - length, -along - widths[0])


def _draw_top(canvas: _Canvas, sleeve: Range, hem: Range, waist: Range, flare: Range, ribs: float) -> None:
    """Draw what shirts, coats and dresses share.

    Body, sleeves, neckline, and with some probability ribs above the hem.
    """
    y, across, bottom = canvas.y, canvas.across, canvas.draw_uniform(*hem)
    shoulder, middle, wider = canvas.draw_uniform(0.36, 0.48), canvas.draw_uniform(*waist), canvas.draw_uniform(*flare)
    width = shoulder + (middle - shoulder) * _compute_ramp(y, -0.65, -0.1) + wider * _compute_ramp(y, -0.1, bottom)
    length = canvas.draw_uniform(*sleeve)
    slope = canvas.draw_uniform(0.8, 1.2) * (
        1 - 0.66 * _compute_ramp(length, 0.2, 0.9)
    )  # long sleeves hang down, short ones point outward
    arm = _compute_strip(across - shoulder + 0.1, y + 0.59, length, slope, (0.14, canvas.draw_uniform(0.07, 0.11)))
    canvas.add_cloth(arm * (length > 0.12), 0.9)
    canvas.add_cloth(
        _compute_soft_shape(across - width, canvas.draw_uniform(0.15, 0.35) * across - 0.78 - y, y - bottom)
    )
    depth = canvas.draw_uniform(0.06, 0.22)
    v_neck = _compute_soft_shape(across - 0.2 + 0.2 * (y + 0.8) / (2 * depth + 0.05))
    round_neck = _compute_ellipse(across, y + 0.78, canvas.draw_uniform(0.13, 0.24), depth)
    canvas.remove_cloth(np.where(canvas.draw_indicator(0.25) > 0, v_neck, round_neck))
    canvas.change_brightness(_compute_line(y - bottom + 0.14, 0.025), (0.25, 0.6), canvas.draw_indicator(ribs))


def _draw_opening(canvas: _Canvas, chance: float, width: Range, strength: Range) -> Array:
    """Draw an opening down the front, and return where there is one."""
    there = canvas.draw_indicator(chance)
    canvas.change_brightness(
        _compute_line(canvas.x - canvas.draw_uniform(-0.04, 0.04), canvas.draw_uniform(*width)), strength, there
    )
    return there


def _draw_buttons(canvas: _Canvas, strength: Range, there: Array) -> None:
    spacing = canvas.draw_uniform(0.2, 0.3)
    place = (canvas.y + 0.5) / spacing
    offset = (place - np.rint(place)) * spacing
    canvas.change_brightness(
        _compute_ellipse(canvas.x - canvas.draw_uniform(0.03, 0.07), offset, 0.055, 0.055), strength, there
    )


def _draw_collar(canvas: _Canvas, there: Array) -> None:
    """Draw two collar leaves beside the neck, with their edges."""
    leaf = _compute_strip(canvas.across - 0.2, canvas.y + 0.76, 0.25, canvas.draw_uniform(-0.7, -0.3), (0.075, 0.05))
    canvas.add_cloth(leaf * there, 0.8)
    canvas.change_brightness(leaf, (-0.5, -0.2), there)
    canvas.change_brightness(
        _compute_strip(canvas.across - 0.33, canvas.y + 0.68, 0.32, -0.6, (0.045, 0.045)), (0.4, 0.9), there
    )


def _draw_t_shirt(canvas: _Canvas) -> None:
    _draw_top(canvas, sleeve=(0.18, 0.6), hem=(0.4, 0.74), waist=(0.32, 0.46), flare=(-0.02, 0.1), ribs=0.08)
    _draw_opening(canvas, 0.03, (0.0, 0.02), (0.2, 0.5))
    x, y = canvas.x - canvas.draw_uniform(-0.06, 0.06), canvas.y + canvas.draw_uniform(0.0, 0.3)
    size = canvas.draw_uniform(0.1, 0.28), canvas.draw_uniform(0.06, 0.25)
    motif = np.where(canvas.draw_indicator(0.5) > 0, _compute_box(x, y, *size), _compute_ellipse(x, y, *size))
    canvas.change_brightness(motif, (0.3, 0.8), canvas.draw_indicator(0.55))


def _draw_trouser(canvas: _Canvas) -> None:
    y, across = canvas.y, canvas.across
    top, crotch, bottom = (
        canvas.draw_uniform(-0.85, -0.7),
        canvas.draw_uniform(-0.45, -0.15),
        canvas.draw_uniform(0.65, 0.95),
    )
    hip, foot, gap = canvas.draw_uniform(0.22, 0.36), canvas.draw_uniform(0.12, 0.3), canvas.draw_uniform(0.0, 0.16)
    waist, down = hip - canvas.draw_uniform(0.0, 0.08), _compute_ramp(y, crotch, bottom)
    outer = waist + (hip - waist) * _compute_ramp(y, top, crotch) + (foot + gap - hip) * down
    inner = np.where(y > crotch, gap * (0.25 + 0.75 * down), -1)
    canvas.add_cloth(_compute_soft_shape(across - outer, inner - across, top - y, y - bottom))
    canvas.remove_cloth(_compute_soft_shape(across - 0.02, crotch - y) * canvas.draw_uniform(0.3, 0.9))
    canvas.change_brightness(_compute_line(y - top - 0.14, 0.01), (0.2, 0.6), canvas.draw_indicator(0.5))


def _draw_pullover(canvas: _Canvas) -> None:
    _draw_top(canvas, sleeve=(0.75, 1.2), hem=(0.4, 0.75), waist=(0.34, 0.5), flare=(-0.06, 0.06), ribs=0.75)
    _draw_buttons(canvas, (0.0, 0.5), _draw_opening(canvas, 0.05, (0.0, 0.02), (0.2, 0.6)))
    canvas.change_brightness(
        _compute_ellipse(canvas.x, canvas.y + 0.78, 0.3, 0.28), (0.2, 0.5), canvas.draw_indicator(0.4)
    )


def _draw_dress(canvas: _Canvas) -> None:
    _draw_top(canvas, sleeve=(-0.3, 0.75), hem=(0.7, 0.92), waist=(0.18, 0.34), flare=(0.02, 0.35), ribs=0.1)
    canvas.change_brightness(
        _compute_line(canvas.y + canvas.draw_uniform(0.0, 0.2), 0.03), (0.3, 0.8), canvas.draw_indicator(0.4)
    )
    _draw_opening(canvas, 0.1, (0.0, 0.02), (0.2, 0.5))


def _draw_coat(canvas: _Canvas) -> None:
    _draw_top(canvas, sleeve=(0.85, 1.25), hem=(0.6, 0.92), waist=(0.36, 0.5), flare=(-0.02, 0.14), ribs=0.15)
    there = _draw_opening(canvas, 0.92, (0.02, 0.08), (0.5, 1.0))
    lapel = _compute_strip(canvas.across - 0.2, canvas.y + 0.76, canvas.draw_uniform(0.35, 0.75), -0.3, (0.035, 0.035))
    canvas.change_brightness(lapel, (0.3, 0.8), there * canvas.draw_indicator(0.7))
    _draw_buttons(canvas, (0.2, 0.6), there * canvas.draw_indicator(0.4))
    pocket = _compute_box(canvas.across - 0.24, canvas.y - canvas.draw_uniform(0.05, 0.3), 0.09, 0.02)
    canvas.change_brightness(pocket, (0.3, 0.7), canvas.draw_indicator(0.5))


def _draw_shirt(canvas: _Canvas) -> None:
    _draw_top(canvas, sleeve=(0.25, 1.2), hem=(0.45, 0.78), waist=(0.32, 0.46), flare=(-0.02, 0.1), ribs=0.08)
    there = _draw_opening(canvas, 0.88, (0.0, 0.03), (0.4, 0.9))
    _draw_buttons(canvas, (-0.5, 0.6), there * canvas.draw_indicator(0.7))
    _draw_collar(canvas, np.maximum(there, canvas.draw_indicator(0.2)) * canvas.draw_indicator(0.9))
    pocket = _compute_box(canvas.x - 0.2, canvas.y + canvas.draw_uniform(0.15, 0.3), 0.08, 0.08)
    canvas.change_brightness(pocket, (0.15, 0.4), canvas.draw_indicator(0.3))


def _draw_shoe(canvas: _Canvas, shaft: Range, tread: Range) -> tuple[Array, Array]:
    """Draw a closed shoe with its toe to the left, and return y of its top and of its sole."""
    x, y, ground, thick = canvas.x, canvas.y, canvas.draw_uniform(0.4, 0.6), canvas.draw_uniform(*tread)
    sole, top = ground - thick, ground - canvas.draw_uniform(*shaft)
    toe, ankle = canvas.draw_uniform(0.15, 0.28), canvas.draw_uniform(-0.1, 0.25)
    instep = np.minimum(canvas.draw_uniform(0.3, 0.5), sole - top)
    height = toe * (0.4 + 0.6 * _compute_ramp(x, -0.85, -0.6)) + (instep - toe) * _compute_ramp(x, -0.55, ankle)
    height = height + (sole - top - instep) * _compute_ramp(x, ankle, ankle + canvas.draw_uniform(0.1, 0.3))
    canvas.add_cloth(_compute_soft_shape(sole - height - y, y - sole, np.abs(x + 0.05) - 0.78))
    canvas.add_cloth(_compute_box(x + 0.05, y - (sole + ground) / 2, 0.82, thick / 2))
    return top, sole


def _draw_sandal(canvas: _Canvas) -> None:
    x, y, ground, thick = canvas.x, canvas.y, canvas.draw_uniform(0.4, 0.6), canvas.draw_uniform(0.04, 0.1)
    heel = canvas.draw_uniform(0.0, 0.5) * canvas.draw_indicator(0.6)
    floor = ground - thick - heel * _compute_ramp(x, -0.4, 0.6)
    canvas.add_cloth(_compute_box(x + 0.07, y - floor, 0.78, thick))
    canvas.add_cloth(
        _compute_soft_shape(
            np.abs(x - canvas.draw_uniform(0.6, 0.75)) - canvas.draw_uniform(0.05, 0.14), floor - y, y - ground
        )
    )
    height = (0.2 + canvas.draw_uniform(0.1, 0.5) * _compute_ramp(x, -0.5, 0.6)) * _compute_ramp(x, -0.85, -0.6)
    spacing, share = canvas.draw_uniform(0.28, 0.6), canvas.draw_uniform(0.2, 0.75)
    bands = _compute_triangle_wave((x + canvas.draw_uniform(-0.4, 0.4) * y) / spacing + canvas.draw_uniform(0, 1))
    straps = _compute_soft_shape((bands - share) * spacing / 2, np.abs(x) - 0.7)
    canvas.add_cloth(straps * _compute_soft_shape(floor - height - y, y - floor), 0.9)
    canvas.add_cloth(_compute_box(x + 0.05, floor - height - y, canvas.draw_uniform(0.3, 0.65), 0.03), 0.9)


def _draw_sneaker(canvas: _Canvas) -> None:
    top, sole = _draw_shoe(canvas, shaft=(0.42, 0.85), tread=(0.08, 0.2))
    canvas.change_brightness(_compute_line(canvas.y - sole, 0.015), (0.3, 0.8), canvas.draw_indicator(0.8))
    lacing = _compute_triangle_wave((canvas.x - canvas.y) / 0.16) * _compute_ellipse(
        canvas.x + 0.15, canvas.y - (top + sole) / 2, 0.25, 0.2
    )
    canvas.change_brightness(lacing, (-0.6, 0.6), canvas.draw_indicator(0.6))
    mark = _compute_strip(canvas.x - 0.15, canvas.y - sole + 0.3, 0.25, canvas.draw_uniform(-1, 1), (0.04, 0.04))
    canvas.change_brightness(mark, (-0.6, 0.7), canvas.draw_indicator(0.5))


def _draw_ankle_boot(canvas: _Canvas) -> None:
    top, sole = _draw_shoe(canvas, shaft=(0.82, 1.35), tread=(0.06, 0.16))
    canvas.remove_cloth(
        _compute_soft_shape(np.abs(canvas.x - 0.05) - canvas.draw_uniform(0.1, 0.25), sole + 0.03 - canvas.y)
        * canvas.draw_indicator(0.7)
    )
    canvas.change_brightness(_compute_line(canvas.y - top - 0.15, 0.02), (0.2, 0.6), canvas.draw_indicator(0.4))
    canvas.change_brightness(
        _compute_soft_shape(np.abs(canvas.x - 0.35) - 0.02, canvas.y - sole + 0.1),
        (0.2, 0.7),
        canvas.draw_indicator(0.4),
    )


def _draw_bag(canvas: _Canvas) -> None:
    middle, width, height = (
        canvas.draw_uniform(0.1, 0.35),
        canvas.draw_uniform(0.45, 0.78),
        canvas.draw_uniform(0.25, 0.5),
    )
    x, y = canvas.x, canvas.y - middle + height  # 0 is the upper edge of the body
    wide, high = canvas.draw_uniform(0.2, 0.5), canvas.draw_uniform(0.15, 0.7)
    radius = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
    handle = _compute_soft_shape(np.abs(radius - 1) * np.minimum(wide, high) - canvas.draw_uniform(0.03, 0.08), y)
    canvas.add_cloth(handle * canvas.draw_indicator(0.85), 0.8)
    canvas.add_cloth(
        _compute_soft_shape(canvas.across - width - canvas.draw_uniform(-0.12, 0.15) * (y - height), -y, y - 2 * height)
    )
    flap = canvas.draw_uniform(0.15, 0.5)
    canvas.change_brightness(_compute_line(y - flap, 0.015), (0.3, 0.8), canvas.draw_indicator(0.6))
    canvas.change_brightness(_compute_box(x, y - flap, 0.07, 0.06), (-0.7, 0.7), canvas.draw_indicator(0.5))


_SHOES = (_draw_sandal, _draw_sneaker, _draw_ankle_boot)
_DRAWINGS: dict[str, Callable[[_Canvas], None]] = {
    "t-shirt": _draw_t_shirt,
    "trouser": _draw_trouser,
    "pullover": _draw_pullover,
    "dress": _draw_dress,
    "coat": _draw_coat,
    "sandal": _draw_sandal,
    "shirt": _draw_shirt,
    "sneaker": _draw_sneaker,
    "bag": _draw_bag,
    "ankle boot": _draw_ankle_boot,
}

CLASSES: tuple[str, ...] = tuple(_DRAWINGS)  # in the order of Fashion-MNIST
