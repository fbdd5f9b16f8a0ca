from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnbench.records.record import Record, RecordError, Status, write_record
from attnbench.reporting.figure_registry import build_figure, save_figure
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Plot
from attnbench.reporting.keys import RowKey
from attnbench.reporting.runs import collect_runs
from attnbench.reporting.tables import write_tables
from attnbench.table import main

MakeRecord = Callable[..., Record]
BINS = FigureLayout(
    "bins", FigureKind.bins, "metrics.test.by_source_words.*.bleu", group=[RowKey("model.norm_placement")], min_count=1
)
DEPTHS = FigureLayout(
    "depths", FigureKind.lines, "metrics.test.bleu", "model.depth", group=[RowKey("model.norm_placement")]
)


def build(records: list[Record], layout: FigureLayout) -> Plot:
    figure = build_figure(collect_runs(records, None), layout, "here")
    assert isinstance(figure, Plot)
    return figure


def by_words(**bins: tuple[float, int]) -> dict[str, Any]:
    found = {name[1:].replace("_", "-"): {"bleu": bleu, "sentences": n} for name, (bleu, n) in bins.items()}
    return {"test": {"bleu": 1.0, "by_source_words": found}}


def means(figure: Plot) -> Mapping[str, list[float | None]]:
    return {
        line.label: [point.summary.mean if point.summary else None for point in line.points] for line in figure.lines
    }


def binned(make_record: MakeRecord) -> list[Record]:
    pre = [
        make_record({"model.norm_placement": "pre"}, seed=s, metrics=by_words(_6_10=(20.0 + s, 5), _1_5=(30.0, 7)))
        for s in (1, 2)
    ]
    post = make_record({"model.norm_placement": "post"}, metrics=by_words(_11_15=(float("nan"), 3), _1_5=(10.0, 7)))
    return [*pre, post, make_record({"model.norm_placement": "none"}, status=Status.failed)]


def test_bins_stand_by_length_with_their_sentences_and_are_averaged_as_cells_are(make_record: MakeRecord) -> None:
    figure = build(binned(make_record), BINS)
    assert figure.ticks == ((0.0, "1-5\n(7)"), (1.0, "6-10\n(5)"), (2.0, "11-15\n(3)"))
    assert means(figure) == {"none": [None] * 3, "post": [10.0, None, None], "pre": [30.0, 21.5, None]}
    assert [point.summary.std for point in figure.lines[2].points if point.summary] == [0.0, pytest.approx(0.5**0.5)]
    assert figure.notes[0] == "Mean over 1 to 2 seeds; band: ± sample standard deviation."
    assert "none: 1 failed." in figure.notes
    assert "post at 11-15: 1 not finite." in figure.notes


def test_small_bins_are_merged_with_their_neighbors_in_all_runs_alike(make_record: MakeRecord) -> None:
    bins = {
        "pre": {"_1_5": (34.0, 2), "_6_10": (24.0, 285), "_11_15": (20.0, 40), "_16_20": (14.0, 12), "_21+": (23.0, 3)},
        "post": {"_1_5": (10.0, 3), "_6_10": (20.0, 284), "_11_15": (30.0, 40), "_16_20": (40.0, 15)},
    }
    records = [make_record({"model.norm_placement": norm}, metrics=by_words(**found)) for norm, found in bins.items()]
    figure = build(records, replace(BINS, min_count=30))
    assert figure.ticks == ((0.0, "1-10\n(287)"), (1.0, "11+\n(55)"))
    assert means(figure) == {
        "post": [pytest.approx((3 * 10 + 284 * 20) / 287), pytest.approx((40 * 30 + 15 * 40) / 55)],
        "pre": [pytest.approx((2 * 34 + 285 * 24) / 287), pytest.approx((40 * 20 + 12 * 14 + 3 * 23) / 55)],
    }
    assert figure.notes[-1] == (
        "Bins of fewer than 30 sentences are merged with their neighbors: 1-10 of 1-5 (2 to 3), 6-10 (284 to 285); "
        "11+ of 11-15 (40), 16-20 (12 to 15), 21+ (3). The number of a merged bin is the mean of its bins' numbers, "
        "weighted by their sentences."
    )
    assert FigureLayout("f", FigureKind.bins, BINS.y).min_count == 30
    assert build(records, replace(BINS, min_count=300)).ticks == ((0.0, "1+\n(342)"),)
    assert means(build(records, BINS))["pre"] == [34.0, 24.0, 20.0, 14.0, 23.0], "1: as they are in the records"
    assert records[0].metrics["test"]["by_source_words"]["1-5"] == {"bleu": 34.0, "sentences": 2}, "a record is changed"


def test_bins_without_sentences_are_never_merged(make_record: MakeRecord) -> None:
    layers = {"initial": {"norm": {"encoder 2": 1.0, "encoder 10": 2.0}}, "test": {}}
    record = make_record({}, metrics=layers)
    figure = build([record], FigureLayout("f", FigureKind.bins, "metrics.initial.norm.*"))
    assert [text for _, text in figure.ticks] == ["encoder 2", "encoder 10"]
    assert figure.notes == ("One seed for each setting: the spread over seeds is unknown.",)


def test_a_key_of_numbers_is_an_axis_of_numbers_and_what_differs_is_a_line(make_record: MakeRecord) -> None:
    grid = [(depth, norm) for depth in (12, 2) for norm in ("pre", "post")]
    records = [make_record({"model.depth": d, "model.norm_placement": n}, bleu=float(d)) for d, n in grid]
    figure = build(records, DEPTHS)
    assert figure.ticks == ((2.0, "2"), (12.0, "12"))
    assert means(figure) == {"post": [2.0, 12.0], "pre": [2.0, 12.0]}
    assert [point.x for point in figure.lines[0].points] == [2.0, 12.0]
    more = [make_record({"model.depth": 2, "model.norm_placement": "pre", "optim.lr": lr}) for lr in (0.1, 0.2)]
    assert list(means(build(more, DEPTHS))) == [
        "model.norm_placement pre, optim.lr 0.1",
        "model.norm_placement pre, optim.lr 0.2",
    ]


def test_names_of_values_give_labels_and_their_order(make_record: MakeRecord) -> None:
    key = RowKey("model.norm_placement", "norm", {"pre": "before", "none": "nowhere"})
    figure = build(binned(make_record), FigureLayout("f", FigureKind.bins, BINS.y, group=[key]))
    assert [line.label for line in figure.lines] == ["before", "nowhere", "post"]
    assert figure.legend == "norm"


def test_a_logarithm_of_no_number_is_refused(make_record: MakeRecord) -> None:
    layout = FigureLayout("f", FigureKind.lines, "metrics.test.bleu", "model.depth", log=True)
    with pytest.raises(RecordError, match=r"^here: figures: f: log: expected model.depth to be above 0, found 0, 2$"):
        build([make_record({"model.depth": depth}) for depth in (2, 0)], layout)


LONG = "a very long label with $dollars and_underscores that goes on " * 4
AWKWARD = {
    "one point": [({"model.depth": 2, "model.norm_placement": "pre"}, {})],
    "words along the axis": [
        ({"model.depth": d, "model.norm_placement": "pre"}, {}) for d in (LONG, None, True, "x" * 50)
    ],
    "a line without a point": [
        ({"model.depth": 1, "model.norm_placement": "pre"}, {}),
        ({"model.depth": 1, "model.norm_placement": LONG}, {"status": Status.failed}),
    ],
    "many": [({"model.depth": d, "model.norm_placement": str(n)}, {"seed": s, "bleu": d * n * s / 9})
             for d in range(1, 30, 2) for n in range(20) for s in (1, 2)],
}  # fmt: skip


@pytest.mark.parametrize("case", AWKWARD)
def test_nothing_breaks_the_drawing(make_record: MakeRecord, tmp_path: Path, case: str) -> None:
    layout = FigureLayout("f", FigureKind.lines, DEPTHS.y, DEPTHS.x, DEPTHS.group, LONG, LONG, LONG, log=case == "many")
    paths = save_figure(build([make_record(flat, **given) for flat, given in AWKWARD[case]], layout), tmp_path)
    assert [path.name for path in paths] == ["f.pdf", "f.png"]
    assert [path.read_bytes()[:4] for path in paths] == [b"%PDF", b"\x89PNG"]


LAYOUT = """
figures:
  - {name: bins, kind: bins, y: metrics.test.by_source_words.*.bleu, min_count: 1, group: [model.norm_placement],
    title: By length}
  - {name: nothing, kind: lines, x: model.norm_placement, y: metrics.test.nothing}
"""


def test_the_same_records_give_the_same_drawings_and_an_empty_one_is_told(
    make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "table.yaml").write_text(LAYOUT)
    found = []
    for folder in (tmp_path / "a" / "demo", tmp_path / "b" / "demo"):
        for record in binned(make_record):
            write_record(record, folder / record.run_id)
        (folder / "nothing.png").write_bytes(b"of another day")
        write_tables(folder, tmp_path)
        found.append([(folder / name).read_bytes() for name in ("bins.pdf", "bins.png", "table.md")])
        assert not (folder / "nothing.png").exists()
    assert found[0] == found[1]
    assert main(["demo", "--output", str(tmp_path / "a"), "--experiments", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "![By length](bins.png)\n\nMean over 1 to 2 seeds" in captured.out
    stem = tmp_path / "a" / "demo" / "bins"
    told = captured.err.splitlines()
    assert told[0] == f"figure bins: {stem}.pdf {stem}.png"
    assert told[1].startswith("figure nothing: not drawn: no finished run has metrics.test.nothing ")
