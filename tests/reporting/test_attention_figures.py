"""The atlas shows, side by side, what runs attend to in one example, and says who is missing and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench.records.record import Record, Status
from attnbench.reporting.attention_figures import AttentionFigure, draw_attention
from attnbench.reporting.drawing import plotting_style
from attnbench.reporting.figure_registry import build_figure, save_figure
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.keys import RowKey
from attnbench.reporting.runs import collect_runs
from attnbench.visualization.attention_maps import AttentionMap
from attnbench.visualization.canvas import Canvas
from attnbench.visualization.image_classification import PatchAttention

MakeRecord = Callable[..., Record]
CROSS = FigureLayout(
    "atlas", FigureKind.attention, "cross-0", group=[RowKey("model.norm_placement", "norm")], title="$ x_1 " * 40
)


def tokens(layers: int, heads: int, keys: str = "wer da <eos>", name: str = "cross-0") -> AttentionMap:
    words = keys.split()
    weights_LHQK = np.random.default_rng(layers).dirichlet(np.ones(len(words)), size=(layers, heads, 2))
    return AttentionMap(name, weights_LHQK, ["<bos>", "who"], words)


def patches(number: int, light: float) -> PatchAttention:
    weights_LHP = np.random.default_rng(number).random((2, 2, 4))
    pixels_HWC = np.full((6, 6, 1), light)
    return PatchAttention(f"attention-{number}", pixels_HWC, weights_LHP, weights_LHP[0, 0], (2, 2), "cat", "dog", 0.6)


@pytest.fixture
def keep(make_record: MakeRecord, tmp_path: Path) -> Callable[..., Record]:
    """keep("pre", picture, ...): a run that keeps these pictures."""

    def made(norm: str, *pictures: Any, seed: int = 1, **changes: Any) -> Record:
        record = make_record({"model.norm_placement": norm}, seed=seed, **changes)
        folder = tmp_path / record.run_id / "pictures" / "final"
        folder.mkdir(parents=True)
        arrays = {f"{one.name}.{key}": array for one in pictures for key, array in one.to_arrays().items()}
        np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **arrays)
        return record

    return made


def atlas_of(records: list[Record], folder: Path, layout: FigureLayout = CROSS) -> AttentionFigure:
    atlas = build_figure(collect_runs(records, None), layout, "here", folder)
    assert isinstance(atlas, AttentionFigure)
    return atlas


def test_tokens_of_every_layer_and_head_stand_side_by_side(
    keep: Callable[..., Record], make_record: MakeRecord, tmp_path: Path
) -> None:
    shown = {"a" * 90: tokens(1, 1), "b": tokens(2, 3)}
    records = [keep(norm, one, seed=seed) for norm, one in shown.items() for seed in (3, 2)]
    records += [
        keep("c", status=Status.failed),
        keep("d", tokens(1, 1, "wer dort <eos>")),
        keep("e", tokens(1, 1, name="x")),
    ]
    broken, bare = keep("f", tokens(1, 1)), make_record({"model.norm_placement": "g"})
    (tmp_path / broken.run_id / "pictures" / "final" / "arrays.npz").write_bytes(b"half of it")
    atlas = atlas_of([*records, broken, bare], tmp_path)
    assert [panel.seed for panel in atlas.panels] == [2, 2]
    said = " ".join(atlas.notes)
    for reason in ("One run each: seed 2.", "c: failed.", "d: cross-0 shows another example.", "e: no picture cross-0.",
                   "f: pictures that cannot be read (", "g: no pictures."):  # fmt: skip
        assert reason in said
    with plotting_style():
        sheet = draw_attention(atlas)
    for axes, one in zip(sheet.axes, shown.values(), strict=False):
        held = np.ma.filled(axes.images[0].get_array(), np.nan)
        assert held.shape == one.grid_size[::-1]
        np.testing.assert_array_equal(held[-2:, -3:], one.weights_LHQK[-1, -1])
        assert [label.get_text() for label in axes.get_xticklabels()][:3] == one.keys
    found = [path.read_bytes() for path in save_figure(atlas, tmp_path)]
    assert found == [path.read_bytes() for path in save_figure(atlas, tmp_path)]


def test_patches_are_of_the_picture_that_the_first_run_shows(
    keep: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [keep("a", patches(0, 0.25), patches(1, 0.5)), keep("b", patches(0, 0.5), patches(1, 0.25)),
               keep("c", patches(0, 0.5))]  # fmt: skip
    atlas = atlas_of(records, tmp_path, replace(CROSS, y="attention-0"))
    assert [panel.picture.name for panel in atlas.panels] == ["attention-0", "attention-1"]
    assert atlas.notes == ("One run each: seed 1.", "c: attention-0 shows another example.")
    origins = []
    monkeypatch.setattr(
        PatchAttention, "draw_heatmap", lambda self, page, *args: origins.append((self.name, page.origin))
    )
    with plotting_style():
        draw_attention(atlas)
    assert [name for name, _ in origins] == ["attention-0"] * 5 + ["attention-1"] * 5
    (left, top), (second, below) = sorted({origin for _, origin in origins})
    assert second - left >= patches(0, 0.5).extent[0], "side by side, and not over each other"
    assert top == below


def test_a_page_draws_from_its_origin() -> None:
    page = Canvas()
    page.origin = (2.0, 1.0)
    page.draw_text("here", 0.5, 0.25, 8)
    assert page.figure.axes[0].texts[0].get_position() == (2.5, 1.25)


def test_settings_beyond_what_has_room_are_counted(keep: Callable[..., Record], tmp_path: Path) -> None:
    atlas = atlas_of([keep(f"{number:02}", tokens(1, 1)) for number in range(11)], tmp_path)
    assert len(atlas.panels) == 8
    assert atlas.notes[-1] == "And 3 more settings that have no room."
    assert atlas_of([keep("z")], tmp_path).notes[0] == "not drawn: no finished run keeps the picture cross-0"
