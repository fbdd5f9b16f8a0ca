from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.records.record import RecordError
from attnbench.reporting.figure_registry import FIGURE_TYPES
from attnbench.reporting.figure_specs import FigureKind
from attnbench.reporting.layout import read_layout


def test_every_kind_can_be_made() -> None:
    assert set(FIGURE_TYPES) == set(FigureKind)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("name: a, kind: pie, y: seed", "kind: expected one of bins, lines, curves, pareto, heat.*, given 'pie'"),
        ("name: a/b, kind: lines, y: seed, x: seed", "a/b: name: expected letters, digits, - and _"),
        ("name: a, kind: bins, y: seed", r"a: y: seed: kind bins expects one \* in it"),
        ("name: a, kind: lines, y: bleu, x: seed", "a: y: bleu: expected a path that begins with"),
        ("name: a, kind: lines, y: seed", "a: x: given none, and kind lines expects a config key"),
        ("name: a, kind: bins, y: seed.*, x: seed", "a: x: given seed, and kind bins expects none"),
        ("name: a, kind: curves, y: val/bleu, x: hours", "a: x: given hours, expected one of update, epoch, seconds,"),
        ("name: a, kind: curves, y: val/bleu, x: update, smooth: 0", "a: smooth: given 0, expected 1 "),
        ("name: a, kind: pareto, y: seed, x: model.depth", "a: x: model.depth: expected a path that begins with"),
        (
            "name: a, kind: attention, y: metrics.test",
            "a: y: given metrics.test, expected a picture.s name, such",
        ),
        ("name: a, kind: heatmap, y: seed, x: seed", "a: group: given none, and kind heatmap expects config keys"),
        ("name: a, kind: lines, y: seed, x: seed, smooth: 5", "smooth: given 5, and kind lines has none: curves has"),
        ("name: a, kind: lines, y: seed, x: seed, best: min", "best: given min, and kind lines has none: pareto has"),
        ("name: a, kind: bins, y: seed.*, min_count: 0", r"a: min_count: given 0, expected 1 \(no bins are merged\)"),
        ("name: a, kind: lines, y: seed, x: seed, min_count: 5", "min_count: given 5, and kind lines has none: bins"),
        ("name: a, kind: bins, y: seed.*, log: true", "log: given true, and kind bins has none: curves, lines, pareto"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, figure: str, message: str) -> None:
    (tmp_path / "table.yaml").write_text(f"figures: [{{{figure}}}]")
    with pytest.raises(RecordError, match=message) as caught:
        read_layout(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/table.yaml: figures[0]: ")
    assert "\n" not in str(caught.value)


def test_a_name_is_one_figure_s(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("figures: [&a {name: a, kind: lines, y: seed, x: seed}, *a]")
    with pytest.raises(RecordError, match=r"figures\[1\]: a: name: another figure has it"):
        read_layout(tmp_path)
