"""Attention of each layer and head for one example, runs side by side, from the arrays that runs keep."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.reporting.drawing import wrap_text
from attnbench.reporting.figure_specs import FigureLayout
from attnbench.reporting.figures import describe_line, group_into_lines
from attnbench.reporting.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

    from attnbench.visualization.attention_maps import AttentionMap
    from attnbench.visualization.image_classification import PatchAttention

    Picture = AttentionMap | PatchAttention

# Errors that numpy raises for a damaged file of arrays.
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_ARRAYS_FILE = Path("pictures", "final", "arrays.npz")
_MAX_PANELS = 8  # settings side by side; further ones are only counted
_CELL_SIZE, _FONT_SIZE = 0.11, 5  # inches per token, and font size in points
_MAX_ROW_WIDTH = 18.0  # inches
_HEADER_HEIGHT, _CAPTION_HEIGHT = (
    0.6,
    0.35,
)  # inches above a panel of tokens; between panels, and between tiles and their captions


@dataclass(frozen=True)
class Panel:
    """Attention of one run."""

    label: str  # name of its setting
    seed: int
    picture: Picture


@dataclass(frozen=True)
class AttentionFigure:
    """Figure of attention panels."""

    layout: FigureLayout
    panels: tuple[Panel, ...]
    remarks: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the seeds shown, and about settings without a picture."""
        if not self.panels:
            return (f"not drawn: no finished run keeps the picture {self.layout.y}", *self.remarks)
        seeds = ", ".join(map(str, sorted({panel.seed for panel in self.panels})))
        return (f"One run each: seed {seeds}.", *self.remarks)

    @property
    def is_empty(self) -> bool:
        """True if no run has the picture."""
        return not self.panels


def build_attention_figure(
    runs: Sequence[Run], layout: FigureLayout, layout_path: str, folder: Path | None
) -> AttentionFigure:
    """Build a panel for each setting, from its first seed that has the picture; all panels show the same example.

    Args:
        runs: runs of the figure.
        layout: entry of `figures` in table.yaml.
        layout_path: not used; all build functions have the same parameters.
        folder: folder with the runs' folders, which hold the pictures.
    """
    groups, legend = group_into_lines(runs, layout.setting_keys, None, None)
    panels: list[Panel] = []
    remarks, beyond = [], 0
    for group in groups:
        members = sorted(group.settings[0], key=lambda run: int(run.config.get("seed", 0)))
        if len(panels) == _MAX_PANELS:
            beyond += 1
            continue
        reasons = []
        for run in members:
            found = _load_picture(run, layout.y, folder, panels[0].picture if panels else None)
            if not isinstance(found, str):
                panels.append(Panel(describe_line(group.label, legend), int(run.config.get("seed", 0)), found))
                break
            reasons.append(found)
        else:
            remarks.append(f"{describe_line(group.label, legend)}: {', '.join(dict.fromkeys(reasons))}.")
    if beyond:
        remarks.append(f"And {beyond} more settings that have no room.")
    return AttentionFigure(layout, tuple(panels), tuple(remarks))


def draw_attention(figure: AttentionFigure) -> MplFigure:
    """Draw panels side by side, in as many rows as needed."""
    from attnbench.visualization.attention_maps import AttentionMap

    maps = [panel.picture for panel in figure.panels if isinstance(panel.picture, AttentionMap)]
    return _draw_tokens(figure, maps) if maps else _draw_patches(figure)


def _load_picture(run: Run, name: str, folder: Path | None, reference: Picture | None) -> Picture | str:
    """Load a run's picture, or another one of its kind that shows the example of `reference`.

    Returns:
        The picture, or the reason why there is none.
    """
    if not run.is_finished:
        return run.state
    if folder is None or not (folder / run.run_id / _ARRAYS_FILE).is_file():
        return "no pictures"
    try:
        held = _read_pictures(folder / run.run_id / _ARRAYS_FILE, name.rpartition("-")[0])
    except READ_ERRORS as error:
        return f"pictures that cannot be read ({error})"
    if name not in held:
        return f"no picture {name}"
    for picture in (held[name], *held.values()):
        if reference is None or _get_example(picture) == _get_example(reference):
            return picture
    return f"{name} shows another example"


def _read_pictures(path: Path, stem: str) -> dict[str, Picture]:
    """Read the attention pictures called <stem>-<number> from a file of arrays."""
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


def _get_example(picture: Picture) -> tuple[Any, ...]:
    """Return a key that identifies the example that a picture shows."""
    from attnbench.visualization.attention_maps import AttentionMap

    if isinstance(picture, AttentionMap):
        return tuple(picture.queries), tuple(picture.keys)
    return picture.pixels_HWC.shape, picture.pixels_HWC.tobytes()


def _draw_tokens(figure: AttentionFigure, maps: Sequence[AttentionMap]) -> MplFigure:
    """Draw one axes per run, with the same scale and the same cell size."""
    from attnbench.visualization.attention_maps import COLORBAR_LABEL
    from attnbench.visualization.canvas import create_figure

    left, below = (0.4 + 0.05 * max(map(len, tokens)) for tokens in (maps[0].queries, maps[0].keys))
    sizes = [(_CELL_SIZE * width, _CELL_SIZE * height) for width, height in (one.grid_size for one in maps)]
    places, (broad, high) = _pack_boxes(
        [(left + width + _CAPTION_HEIGHT, _HEADER_HEIGHT + height + below) for width, height in sizes]
    )
    fig = create_figure(broad + 0.5, high)
    for (x, y), size, panel, one in zip(places, sizes, figure.panels, maps, strict=True):
        box = (
            (x + left) / (broad + 0.5),
            1 - (y + _HEADER_HEIGHT + size[1]) / high,
            size[0] / (broad + 0.5),
            size[1] / high,
        )
        image = one.draw_on(fig.add_axes(box), wrap_text(panel.label, int(12 * (left + size[0])), lines=2), _FONT_SIZE)
    bar = fig.add_axes((broad / (broad + 0.5), 1 - (_HEADER_HEIGHT + min(2.0, sizes[0][1])) / high,
                          0.12 / (broad + 0.5), min(2.0, sizes[0][1]) / high))  # fmt: skip
    fig.colorbar(image, cax=bar, label=COLORBAR_LABEL).outline.set_visible(False)
    bar.grid(visible=False)
    if figure.layout.title:
        fig.text(0, 1, wrap_text(figure.layout.title, int(11 * broad)), va="bottom", fontsize=11)
    fig.text(0, 0, wrap_text(" ".join(figure.notes), int(18 * broad), lines=6), va="top", fontsize=7, color="0.3")
    return fig


def _pack_boxes(sizes: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Arrange boxes in rows of at most `_MAX_ROW_WIDTH` inches.

    Returns:
        Position of each box from the upper left, and the total size.
    """
    places, x, y, row = [], 0.0, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > _MAX_ROW_WIDTH:
            x, y, row = 0.0, y + row, 0.0
        places.append((x, y))
        x, row = x + width, max(row, height)
    return places, (max(at + width for (at, _), (width, _) in zip(places, sizes, strict=True)), y + row)


def _draw_patches(figure: AttentionFigure) -> MplFigure:
    """Draw a block of tiles per run, from left to right, on one page."""
    from attnbench.visualization.canvas import Canvas
    from attnbench.visualization.image_classification import PatchAttention

    pictures = [panel.picture for panel in figure.panels if isinstance(panel.picture, PatchAttention)]
    gap = 2 * _CAPTION_HEIGHT
    places, (broad, high) = _pack_boxes(
        [(width + gap, height + gap) for width, height in (one.extent for one in pictures)]
    )
    page = Canvas()
    for page.origin, panel, one in zip(places, figure.panels, pictures, strict=True):
        one.draw_on(page)
        page.draw_text(
            wrap_text(panel.label, int(9 * one.extent[0]), lines=2), 0, -_CAPTION_HEIGHT, 10, va="bottom", weight="bold"
        )
    page.origin = (0.0, 0.0)
    if figure.layout.title:
        page.draw_text(wrap_text(figure.layout.title, int(8 * broad)), 0, -2 * _CAPTION_HEIGHT, 12, va="bottom")
    page.draw_text(
        wrap_text(" ".join(figure.notes), int(15 * broad), lines=6), 0, high - _CAPTION_HEIGHT, 8, color="0.3", va="top"
    )
    return page.figure
