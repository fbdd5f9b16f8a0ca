"""Attention of each layer and head over one example, runs side by side: from the arrays that runs keep."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.reporting.drawing import wrapped
from attnbench.reporting.figure_specs import FigureLayout
from attnbench.reporting.figures import sort_into_lines, told
from attnbench.reporting.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

    from attnbench.visualization.attention_maps import AttentionMap
    from attnbench.visualization.image_classification import PatchAttention

    Picture = AttentionMap | PatchAttention

# What numpy raises for a damaged file of arrays.
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_ARRAYS = Path("pictures", "final", "arrays.npz")
_MOST = 8  # settings side by side; more are named
_CELL, _LETTERS = 0.11, 5  # inches a token, and the points of its letters
_WIDE = 18.0  # inches of a row of panels
_HEAD, _CAPTION = 0.6, 0.35  # inches above a panel of tokens; between panels, and from tiles to what they are called


@dataclass(frozen=True)
class Panel:
    """What one run attends to."""

    label: str  # its setting
    seed: int
    picture: Picture


@dataclass(frozen=True)
class Atlas:
    """A Figure of panels."""

    layout: FigureLayout
    panels: tuple[Panel, ...]
    remarks: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Whose attention it is, and who is missing for what reason."""
        if not self.panels:
            return (f"not drawn: no finished run keeps the picture {self.layout.y}", *self.remarks)
        seeds = ", ".join(map(str, sorted({panel.seed for panel in self.panels})))
        return (f"One run each: seed {seeds}.", *self.remarks)

    @property
    def empty(self) -> bool:
        """Whether no run has the picture."""
        return not self.panels


def by_probe(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None) -> Atlas:
    """A panel for each setting, of its first seed that has the picture; all show the example of the first panel."""
    groups, legend = sort_into_lines(runs, layout.keys, None, None)
    panels: list[Panel] = []
    remarks, beyond = [], 0
    for group in groups:
        members = sorted(group.settings[0], key=lambda run: int(run.config.get("seed", 0)))
        if len(panels) == _MOST:
            beyond += 1
            continue
        reasons = []
        for run in members:
            found = _picture(run, layout.y, folder, panels[0].picture if panels else None)
            if not isinstance(found, str):
                panels.append(Panel(told(group.label, legend), int(run.config.get("seed", 0)), found))
                break
            reasons.append(found)
        else:
            remarks.append(f"{told(group.label, legend)}: {', '.join(dict.fromkeys(reasons))}.")
    if beyond:
        remarks.append(f"And {beyond} more settings that have no room.")
    return Atlas(layout, tuple(panels), tuple(remarks))


def draw_atlas(atlas: Atlas) -> Sheet:
    """Panels side by side, in as many rows as they need."""
    from attnbench.visualization.attention_maps import AttentionMap

    maps = [panel.picture for panel in atlas.panels if isinstance(panel.picture, AttentionMap)]
    return _draw_tokens(atlas, maps) if maps else _draw_patches(atlas)


def _picture(run: Run, name: str, folder: Path | None, like: Picture | None) -> Picture | str:
    """The run's picture of that name, or the one of its kind that shows the example of `like`; or why there is none."""
    if not run.finished:
        return run.state
    if folder is None or not (folder / run.run_id / _ARRAYS).is_file():
        return "no pictures"
    try:
        held = _read(folder / run.run_id / _ARRAYS, name.rpartition("-")[0])
    except READ_ERRORS as error:
        return f"pictures that cannot be read ({error})"
    if name not in held:
        return f"no picture {name}"
    for picture in (held[name], *held.values()):
        if like is None or _example(picture) == _example(like):
            return picture
    return f"{name} shows another example"


def _read(path: Path, stem: str) -> dict[str, Picture]:
    """The pictures of attention called <stem>-<number> in a file of arrays."""
    import numpy as np

    from attnbench.visualization.attention_maps import AttentionMap
    from attnbench.visualization.image_classification import PatchAttention

    held: dict[str, dict[str, Any]] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            name, _, part = key.partition(".")
            if name.rpartition("-")[0] == stem:
                held.setdefault(name, {})[part] = arrays[key]
    found: dict[str, Picture] = {}
    for name, parts in held.items():
        kind = PatchAttention if "rollout" in parts else AttentionMap
        found[name] = kind.from_arrays(name, parts)
    return found


def _example(picture: Picture) -> tuple[Any, ...]:
    """What a picture is of, whatever a model makes of it."""
    from attnbench.visualization.attention_maps import AttentionMap

    if isinstance(picture, AttentionMap):
        return tuple(picture.queries), tuple(picture.keys)
    return picture.pixels_HWC.shape, picture.pixels_HWC.tobytes()


def _draw_tokens(atlas: Atlas, maps: Sequence[AttentionMap]) -> Sheet:
    """An axes a run, all of one scale, and cells of one size."""
    from attnbench.visualization.attention_maps import COLORBAR_LABEL
    from attnbench.visualization.canvas import create_figure

    left, below = (0.4 + 0.05 * max(map(len, tokens)) for tokens in (maps[0].queries, maps[0].keys))
    sizes = [(_CELL * width, _CELL * height) for width, height in (one.grid_size for one in maps)]
    places, (broad, high) = _packed([(left + width + _CAPTION, _HEAD + height + below) for width, height in sizes])
    sheet = create_figure(broad + 0.5, high)
    for (x, y), size, panel, one in zip(places, sizes, atlas.panels, maps, strict=True):
        box = ((x + left) / (broad + 0.5), 1 - (y + _HEAD + size[1]) / high, size[0] / (broad + 0.5), size[1] / high)
        image = one.draw_on(sheet.add_axes(box), wrapped(panel.label, int(12 * (left + size[0])), lines=2), _LETTERS)
    bar = sheet.add_axes((broad / (broad + 0.5), 1 - (_HEAD + min(2.0, sizes[0][1])) / high,
                          0.12 / (broad + 0.5), min(2.0, sizes[0][1]) / high))  # fmt: skip
    sheet.colorbar(image, cax=bar, label=COLORBAR_LABEL).outline.set_visible(False)
    bar.grid(visible=False)
    if atlas.layout.title:
        sheet.text(0, 1, wrapped(atlas.layout.title, int(11 * broad)), va="bottom", fontsize=11)
    sheet.text(0, 0, wrapped(" ".join(atlas.notes), int(18 * broad), lines=6), va="top", fontsize=7, color="0.3")
    return sheet


def _packed(sizes: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Places from the upper left for boxes side by side, in rows of at most `_WIDE`; and the size of all."""
    places, x, y, row = [], 0.0, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > _WIDE:
            x, y, row = 0.0, y + row, 0.0
        places.append((x, y))
        x, row = x + width, max(row, height)
    return places, (max(at + width for (at, _), (width, _) in zip(places, sizes, strict=True)), y + row)


def _draw_patches(atlas: Atlas) -> Sheet:
    """A block of tiles a run, from left to right, on one page."""
    from attnbench.visualization.canvas import Canvas
    from attnbench.visualization.image_classification import PatchAttention

    pictures = [panel.picture for panel in atlas.panels if isinstance(panel.picture, PatchAttention)]
    gap = 2 * _CAPTION
    places, (broad, high) = _packed([(width + gap, height + gap) for width, height in (one.extent for one in pictures)])
    page = Canvas()
    for page.origin, panel, one in zip(places, atlas.panels, pictures, strict=True):
        one.draw_on(page)
        page.draw_text(
            wrapped(panel.label, int(9 * one.extent[0]), lines=2), 0, -_CAPTION, 10, va="bottom", weight="bold"
        )
    page.origin = (0.0, 0.0)
    if atlas.layout.title:
        page.draw_text(wrapped(atlas.layout.title, int(8 * broad)), 0, -2 * _CAPTION, 12, va="bottom")
    page.draw_text(
        wrapped(" ".join(atlas.notes), int(15 * broad), lines=6), 0, high - _CAPTION, 8, color="0.3", va="top"
    )
    return page.figure
