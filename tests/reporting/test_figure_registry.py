"""Curves, fronts and heat maps: what is drawn is what the records say, and labels stand where they can be read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from attnbench.records.history import append_entry
from attnbench.records.record import Record, RecordError, Status
from attnbench.reporting.drawing import plotting_style, wrap_text
from attnbench.reporting.figure_registry import FIGURE_TYPES, build_figure, save_figure
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Plot, extract_curve, find_pareto_front
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.runs import collect_runs

MakeRecord = Callable[..., Record]
DEPTH = RowKey("model.depth", "layers")
NORM = RowKey("model.norm_placement", "norm")
LOSS = FigureLayout("f", FigureKind.curves, "train/loss", "update", [NORM])
HEAT = FigureLayout("f", FigureKind.heatmap, "metrics.test.bleu", "model.depth", [NORM])
COST = FigureLayout("f", FigureKind.pareto, "metrics.test.bleu", "parameters.total", [NORM])


def build(records: list[Record], layout: FigureLayout, folder: Path | None = None) -> Plot:
    figure = build_figure(collect_runs(records, None), layout, "here", folder)
    assert isinstance(figure, Plot)
    return figure


def sheet_of(figure: Plot) -> tuple[Sheet, Axes]:
    with plotting_style():
        sheet = FIGURE_TYPES[figure.layout.kind].draw(figure)
    return sheet, sheet.axes[0]


def trained(make_record: MakeRecord, folder: Path, *losses: list[float], **given: Any) -> list[Record]:
    """A run for each list of losses; they are ten updates apart, and the seed takes as many seconds for one."""
    records = []
    for seed, found in enumerate(losses, start=1):
        records.append(make_record({"model.norm_placement": "pre"}, seed=seed, **given))
        (folder / records[-1].run_id).mkdir()
        for step, loss in enumerate(found, start=1):
            entry = {"update": 10 * step, "seconds": 10.0 * step * seed, "train/loss": loss, "val/bleu": 1.0}
            append_entry(folder / records[-1].run_id, entry)
    return records


def test_a_curve_and_its_band_are_mean_and_spread_over_seeds(make_record: MakeRecord, tmp_path: Path) -> None:
    nan = float("nan")
    records = trained(make_record, tmp_path, [5.0, 3.0, nan], [3.0, 2.0, nan, 1.0], [4.0, nan, nan, 2.0])
    figure = build(records, LOSS, tmp_path)
    _, axes = sheet_of(figure)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [10, 20, 30, 40])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [4.0, 2.5, nan, 1.5])
    (band,) = [found for found in axes.collections if isinstance(found, PolyCollection)]
    edges = {tuple(corner) for path in band.get_paths() for corner in path.vertices.round(9)}
    deviation = 0.5**0.5
    expected = {(10, 3), (10, 5), (20, 2.5 - deviation), (20, 2.5 + deviation)}
    assert edges >= {(x, round(y, 9)) for x, y in expected}
    assert figure.notes[0] == "Mean over 2 to 3 seeds; band: ± sample standard deviation."
    assert "pre: from update 20 on, not every seed has a number." in figure.notes


def test_curves_over_time_stand_where_their_seeds_were_on_average(make_record: MakeRecord, tmp_path: Path) -> None:
    records = trained(make_record, tmp_path, [5.0, 3.0], [3.0, 1.0])
    figure = build(records, FigureLayout("f", FigureKind.curves, "train/loss", "seconds"), tmp_path)
    assert [point.x for point in figure.lines[0].points] == [15.0, 30.0]
    assert figure.notes[-1] == "Both axes show means over seeds at the same update."


def test_what_has_no_curve_says_why(make_record: MakeRecord, tmp_path: Path) -> None:
    records = trained(make_record, tmp_path, [1.0])
    records += [
        make_record({"model.norm_placement": "post"}),
        make_record({"model.norm_placement": "none"}, status=Status.failed),
    ]
    figure = build(records, LOSS, tmp_path)
    assert figure.notes == (
        "One seed for each setting: the spread over seeds is unknown.", "none: 1 failed.", "post: 1 no history."
    )  # fmt: skip
    _, axes = sheet_of(figure)
    assert len(axes.lines) == 1
    assert not axes.collections, "one seed has no band"
    nothing = build(records, FigureLayout("f", FigureKind.curves, "val/chrf", "update"), tmp_path)
    assert nothing.is_empty
    assert "pre: 1 no val/chrf in its history." in nothing.notes
    flops = build(records, FigureLayout("f", FigureKind.curves, "train/loss", "flops"), tmp_path)
    assert "pre: 1 no flops in its history." in flops.notes


def test_smoothing_is_a_mean_of_what_came_before_and_none_by_default() -> None:
    nan = float("nan")
    values = [(1, 9.0), (2, 3.0), (2, 5.0), (3, nan), (4, 1.0), (5, 3.0)]
    entries = [{"update": float(update), "m": value} for update, value in values] + [{"update": 6.0}]
    plain = extract_curve(entries, "update", "m", 1)
    assert [plain[update][1] for update in (1, 2, 4, 5)] == [9.0, 5.0, 1.0, 3.0]
    smooth = extract_curve(entries, "update", "m", 3)
    np.testing.assert_allclose([smooth[update][1] for update in range(1, 6)], [9.0, 7.0, nan, 5.0, 3.0])


def is_beaten(point: tuple[float, float], by: tuple[float, float], best_x: Best, best_y: Best) -> bool:
    signs = [1 if best is Best.max else -1 for best in (best_x, best_y)]
    gains = [sign * (theirs - ours) for sign, ours, theirs in zip(signs, point, by, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


@pytest.mark.parametrize(("best_x", "best_y"), list(itertools.product(Best, Best)))
def test_the_front_is_what_brute_force_finds(best_x: Best, best_y: Best) -> None:
    for seed in range(50):
        numbers = random.Random(seed)
        points = [(float(numbers.randrange(8)), float(numbers.randrange(8))) for _ in range(numbers.randrange(1, 25))]
        expected = {p for p in points if not any(is_beaten(p, other, best_x, best_y) for other in points)}
        front = find_pareto_front(points, best_x, best_y)
        assert len(front) == len(expected)
        assert set(front) == expected


def test_costs_are_drawn_where_they_are_and_the_front_is_ringed(make_record: MakeRecord) -> None:
    sizes = {("pre", 1): (100, 20.0), ("pre", 2): (200, 30.0), ("post", 1): (150, 15.0), ("post", 2): (400, 35.0)}
    records = [
        make_record(
            {"model.norm_placement": norm, "model.depth": depth},
            seed=seed,
            bleu=bleu + seed,
            parameters={"total": size},
        )
        for (norm, depth), (size, bleu) in sizes.items()
        for seed in (1, 3)
    ]
    records.append(
        make_record({"model.norm_placement": "pre", "model.depth": 3}, bleu=float("nan"), parameters={"total": 5})
    )
    records.append(make_record({"model.norm_placement": "pre", "model.depth": 4}, parameters={}))
    figure = build(records, COST)
    _, axes = sheet_of(figure)
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert lines["pre"] == [(100, 22.0), (200, 32.0)]
    assert lines["post"] == [(150, 17.0), (400, 37.0)]
    assert lines["_front"] == lines["_ringed"] == [(100, 22.0), (200, 32.0), (400, 37.0)]
    names = [text for text in axes.texts if text.get_color() == "black"]
    assert sorted(text.get_text() for text in names) == ["depth 1", "depth 2", "depth 2"]
    assert "pre at depth 3: 1 not finite." in figure.notes
    assert "pre at depth 4: 1 no value." in figure.notes
    assert figure.notes[-1] == (
        "Circled: the Pareto front of higher bleu and lower total: pre, depth 1; pre, depth 2; post, depth 2."
    )


def test_a_map_shows_each_cell_and_hatches_what_is_missing(make_record: MakeRecord) -> None:
    records = [
        make_record({"model.norm_placement": "pre", "model.depth": d}, seed=s, bleu=d + s)
        for d in (12, 2)
        for s in (1, 3)
    ]
    records += [
        make_record({"model.norm_placement": "post", "model.depth": 2}, bleu=7.0),
        make_record({"model.norm_placement": "post", "model.depth": 12}, status=Status.failed),
        make_record({"model.norm_placement": "none", "model.depth": 6}, bleu=float("nan")),
    ]
    _, axes = sheet_of(build(records, HEAT))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "6", "12"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "post", "pre"]
    means = np.ma.filled(axes.images[0].get_array(), np.nan)
    nan = np.nan
    np.testing.assert_array_equal(means, [[nan, nan, nan], [7, nan, nan], [4, nan, 14]])
    hatched = {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in axes.patches if isinstance(patch, Rectangle)}
    assert hatched == {(column, row) for row, column in zip(*np.nonzero(np.isnan(means)), strict=True)}
    words = {text.get_position(): text.get_text() for text in axes.texts}
    assert words[(0, 2)] == "4.00\n± 1.41"
    assert words[(0, 1)] == "7.00\nn=1"
    assert (words[(2, 1)], words[(1, 0)], words[(0, 0)]) == ("1 failed", "1 not finite", "no run")


LONG = "a very long label with $dollars and_underscores that goes on " * 4


def awkward(make_record: MakeRecord, folder: Path) -> Iterator[Record]:
    for norm, depth, seed in itertools.product((LONG, "post"), (2, 1000, 40000), (1, 2)):
        status = Status.failed if (norm, depth) == ("post", 1000) else Status.finished
        record = make_record({"model.norm_placement": norm, "model.depth": depth, "model.name": LONG + str(depth)},
                             seed=seed,
                             status=status, bleu=float("nan") if depth == 2 else seed / depth)  # fmt: skip
        (folder / record.run_id).mkdir()
        append_entry(folder / record.run_id, {"update": depth, "train/loss": depth * 1e6})
        yield record


def bounds(sheet: Sheet) -> Iterator[tuple[str, Any]]:
    """Every text that is seen, and where it stands."""
    canvas = FigureCanvasAgg(sheet)
    canvas.draw()
    beyond = set()
    for axes in sheet.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            beyond |= {id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    for text in sheet.findobj(Text):
        if isinstance(text, Text) and text.get_text() and text.get_visible() and id(text) not in beyond:
            yield text.get_text(), text.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "layout",
    [
        FigureLayout("f", FigureKind.lines, HEAT.y, "model.depth", [NORM], {}, LONG, LONG, LONG),
        FigureLayout("f", FigureKind.curves, "train/loss", "update", [NORM], {}, LONG, LONG, LONG, log=True),
        FigureLayout("f", FigureKind.pareto, HEAT.y, "config.model.depth", [NORM], {}, LONG, LONG, LONG, log=True),
        FigureLayout("f", FigureKind.heatmap, HEAT.y, "model.name", [NORM], {}, LONG, LONG, LONG),
    ],
    ids=lambda layout: layout.kind.name,
)
def test_labels_stay_on_the_sheet_and_off_the_axes(
    make_record: MakeRecord, tmp_path: Path, layout: FigureLayout
) -> None:
    figure = build(list(awkward(make_record, tmp_path)), layout, tmp_path)
    sheet, axes = sheet_of(figure)
    width, height = sheet.bbox.size
    for words, box in bounds(sheet):
        assert box.x0 >= -1, words
        assert box.y0 >= -1, words
        assert box.x1 <= width + 1, words
        assert box.y1 <= height + 1, words
    inside = axes.get_window_extent()
    assert inside.width > 0.2 * width
    assert inside.height > 0.2 * height
    renderer = FigureCanvasAgg(sheet).get_renderer()  # type: ignore[no-untyped-call]
    for axis in (axes.xaxis, axes.yaxis):
        for label in axis.get_ticklabels():
            box = label.get_window_extent(renderer)
            assert not label.get_text() or box.y1 <= inside.y0 or box.x1 <= inside.x0


@pytest.mark.parametrize(("width", "lines"), [(26, 1), (26, 3), (13, 2)])
def test_long_labels_keep_the_end_that_tells_them_apart(width: int, lines: int) -> None:
    shown = [wrap_text(f"{LONG}, depth {depth}", width, lines) for depth in (1, 2)]
    for text in shown:
        assert text.startswith("a very")
        assert all(len(line) <= width for line in text.split("\n"))
        assert text.count("\n") < lines
    assert shown[0] != shown[1]
    assert wrap_text("a  label\n$x$", 26) == "a label $x$"


def test_a_sweep_with_holes_and_failures_is_drawn_in_every_kind_and_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from records import make_records

    records = make_records(tmp_path, 60)
    for record in records[::2]:
        append_entry(tmp_path / record.run_id, {"update": 1, "train/loss": 1.0})
    keys = [RowKey("attention.score"), NORM]
    for layout in (
        FigureLayout("curves", FigureKind.curves, "train/loss", "update", keys),
        FigureLayout("heat", FigureKind.heatmap, HEAT.y, "model.depth", keys),
        FigureLayout("pareto", FigureKind.pareto, HEAT.y, COST.x, keys, log=True),
    ):
        figure = build(records, layout, tmp_path)
        assert repr(build(records[::-1], layout, tmp_path)) == repr(figure)
        assert any("not finite" in said for said in figure.notes) or layout.kind is FigureKind.curves
    found = [path.read_bytes() for path in save_figure(figure, tmp_path)]
    assert [part[:4] for part in found] == [b"%PDF", b"\x89PNG"]
    assert found == [path.read_bytes() for path in save_figure(figure, tmp_path)]


def test_a_logarithm_of_nothing_is_refused(make_record: MakeRecord) -> None:
    with pytest.raises(RecordError, match=r"^here: figures: f: log: expected parameters.total to be above 0, found 0$"):
        build(
            [make_record({}, parameters={"total": 0})], FigureLayout("f", FigureKind.pareto, HEAT.y, COST.x, log=True)
        )
