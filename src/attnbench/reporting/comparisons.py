"""Compare each row with its baseline, over seeds and over the outputs for the test set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.data.errors import DataError
from attnbench.data.text_files import read_lines
from attnbench.metrics.statistics import (
    ALPHA,
    OutputTest,
    PairedComparison,
    Summary,
    correct_with_holm,
    mcnemar_test,
    paired_output_test,
    paired_t_test,
)
from attnbench.metrics.tokenization import TokenizerError
from attnbench.records.record import Record, RecordError
from attnbench.reporting.aggregation import GroupedRuns, Row, Table
from attnbench.reporting.baselines import describe_missing_baseline, get_values_by_seed, select_common_seeds
from attnbench.reporting.cells import Cell, format_number, format_signed, get_record_value
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column, Layout
from attnbench.reporting.runs import ABSENT, Run

OUTPUTS_FOLDER = "outputs"  # in a run's folder
_TOLERANCE = 1e-4  # between a score (0 to 100) in a record, possibly in float32, and the score computed again
_P_COLUMN = Column("p", digits=4)
_ONE_PAIR, _DISAGREE = "only one common seed", "sign differs between seeds"
_NO_SPREAD = "equal differences"
_SHOWS_NOTHING = (_ONE_PAIR, _NO_SPREAD, _DISAGREE)
_COLUMNS = (
    Column("difference", label="less the baseline's"),
    Column("p_seeds", label="p over seeds", digits=4),
    Column("p_bootstrap", label="p, bootstrap", digits=4),
    Column("p_randomization", label="p, randomization", digits=4),
    Column("p_mcnemar", label="p, McNemar", digits=4),
)


@dataclass(frozen=True)
class RowComparison:
    """Tests of one row in one column."""

    row_index: int
    baseline_index: int
    over_seeds: PairedComparison | None  # None: no common seed
    over_outputs: dict[str, float | str]  # by column key: the largest p over seeds, or why there is none


def build_comparison_table(grouped: GroupedRuns, layout: Layout, folder: Path, layout_path: str, title: str) -> Table:
    """Build a table with a row for each comparison with the baseline.

    The columns that say which direction is better are compared.

    p-values are corrected by Holm's procedure within a column of the table and a kind of test. Tests over outputs are
    made for each
    common seed, and the largest p counts: the difference exists at every seed.

    Args:
        grouped: runs grouped into rows.
        layout: content of table.yaml.
        folder: folder with the runs' folders.
        layout_path: path of table.yaml, for error messages.
        title: title of the sweep's table.

    Raises:
        RecordError: the layout has no baseline that exists, or no column that says which direction is better.
    """
    if not layout.baseline:
        raise RecordError(f"{layout_path}: baseline: expected config keys and values of the row to compare others with")
    if all(base is None for base in grouped.baselines):
        raise RecordError(f"{layout_path}: baseline: {describe_missing_baseline(layout.baseline)} beside others")
    columns = [column for column in grouped.columns if column.best is not None]
    if not columns:
        raise RecordError(f"{layout_path}: columns: expected best: max or min in the columns that are to be compared")
    rows = [row for column in columns for row in _build_rows(grouped, column, folder)]
    keys = (RowKey("metric"), *grouped.keys)
    shown = [column for index, column in enumerate(_COLUMNS) if any(row.cells[index].value != ABSENT for row in rows)]
    kept = [_COLUMNS.index(column) for column in shown]
    rows = [Row(row.labels, tuple(row.cells[i] for i in kept), ((),) * len(kept), row.group) for row in rows]
    named = ", ".join(f"{key}={value}" for key, value in layout.baseline.items())
    return Table(
        f"{title}: against {named}", keys, tuple(shown), tuple(rows), tuple(_write_notes(shown, rows)), marks=()
    )


def _build_rows(grouped: GroupedRuns, column: Column, folder: Path) -> Iterator[Row]:
    found = [
        RowComparison(
            place,
            base,
            _test_over_seeds(grouped, place, base, column),
            _test_over_outputs(grouped, place, base, column, folder),
        )
        for place, base in enumerate(grouped.baselines)
        if base is not None
    ]
    ps: dict[str, list[float | str]] = {"p_seeds": [_get_p(one.over_seeds) for one in found]}
    for name in ("p_bootstrap", "p_randomization", "p_mcnemar"):
        ps[name] = [one.over_outputs.get(name, ABSENT) for one in found]
    ps = {name: _correct_p_values(values) for name, values in ps.items()}
    for number, one in enumerate(found):
        run_ids = tuple(
            run.run_id
            for place in (one.row_index, one.baseline_index)
            for run in grouped.rows[place]
            if run.is_finished
        )
        cells = [_build_difference_cell(one.over_seeds, column, run_ids)]
        for key, values in ps.items():
            pairs = f"n={one.over_seeds.n}" if key == "p_seeds" and one.over_seeds else ""
            cells.append(_build_p_cell(values[number], pairs, run_ids))
        yield Row((column.heading, *grouped.labels[one.row_index]), tuple(cells), ((),) * len(_COLUMNS))


def _correct_p_values(values: list[float | str]) -> list[float | str]:
    """Correct p-values by Holm's procedure; a comparison that was made and shows nothing counts as p = 1."""
    tested = [place for place, p in enumerate(values) if isinstance(p, float) or p in _SHOWS_NOTHING]
    found = list(values)
    adjusted = correct_with_holm([p if isinstance(p := values[place], float) else 1.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        if isinstance(values[place], float):
            found[place] = p
    return found


def _test_over_seeds(
    grouped: GroupedRuns, row_index: int, baseline_index: int, column: Column
) -> PairedComparison | None:
    ours, theirs = select_common_seeds(grouped.rows[row_index], grouped.rows[baseline_index], column)
    return paired_t_test(ours, theirs) if ours else None


def _get_p(found: PairedComparison | None) -> float | str:
    if found is None:
        return "no seed in common"
    if found.p is None:
        return _ONE_PAIR if found.n == 1 else _NO_SPREAD
    return found.p


def _build_difference_cell(found: PairedComparison | None, column: Column, run_ids: tuple[str, ...]) -> Cell:
    if found is None:
        return Cell(None, "no seed in common", "", "no seed in common", ())
    ends = "" if found.interval is None else f"[{', '.join(format_signed(end, column) for end in found.interval)}]"
    summary = Summary(found.difference, None, found.n, found.interval)
    spread = f"{ends} (n={found.n})".strip()
    return Cell(summary, format_signed(found.difference, column), spread, "", run_ids)


def _build_p_cell(p: float | str, counted: str, run_ids: tuple[str, ...]) -> Cell:
    if isinstance(p, str):
        return Cell(None, p, "", "" if p == ABSENT else p, ())
    text = format_number(p, _P_COLUMN)
    return Cell(Summary(p, None, 1), text, f"({counted})" if counted else "", "", run_ids, differs=p < ALPHA)


def _test_over_outputs(
    grouped: GroupedRuns, row_index: int, baseline_index: int, column: Column, folder: Path
) -> dict[str, float | str]:
    """Run the tests that fit the column, each with its largest p over common seeds."""
    tests = _select_tests(column.key)
    seeds = (
        get_values_by_seed(grouped.rows[row_index], column).keys()
        & get_values_by_seed(grouped.rows[baseline_index], column).keys()
    )
    ours, theirs = ({run.config["seed"]: run for run in grouped.rows[at]} for at in (row_index, baseline_index))
    found: dict[str, float | str] = {}
    for name, test in tests.items():
        ps, signs = [], set()
        try:
            for seed in sorted(seeds):
                difference, p = test(ours[seed], theirs[seed], column.key, folder)
                ps.append(p)
                signs.add(difference > 0)
        except RecordError as error:
            found[name] = str(error)
            continue
        found[name] = _DISAGREE if len(signs) > 1 else max(ps, default="no seed in common")
    return found


_PairTest = Callable[[Run, Run, str, Path], tuple[float, float]]  # our score less the baseline's, and p


def _select_tests(key: str) -> dict[str, _PairTest]:
    root, _, place = key.partition(".")
    stage, _, name = place.partition(".")
    if root != "metrics" or stage in ("final", "best"):
        return {}
    if re.fullmatch(r"(bleu|chrf)\w*", name):
        return {
            "p_bootstrap": _make_text_test(OutputTest.bootstrap),
            "p_randomization": _make_text_test(OutputTest.randomization),
        }
    return {"p_mcnemar": _run_mcnemar_test} if name == "accuracy" else {}


def _make_text_test(test: OutputTest) -> _PairTest:
    def run(ours: Run, theirs: Run, key: str, folder: Path) -> tuple[float, float]:
        signature = get_record_value(_get_record(ours), f"{key}_signature")
        if not isinstance(signature, str):
            raise RecordError("no signature")
        # Text that a model writes tokenized is also scored detokenized, and both forms are kept.
        form = "" if "tok:none" in signature else "detokenized."
        hypotheses, references = (
            _read_output_lines(ours, folder, key, "hypothesis", form),
            _read_output_lines(ours, folder, key, "reference", form),
        )
        others = _read_output_lines(theirs, folder, key, "hypothesis", form)
        if references != _read_output_lines(theirs, folder, key, "reference", form) or len(hypotheses) != len(others):
            raise RecordError("different test sets")
        try:
            scores, p = paired_output_test(hypotheses, others, references, signature, test)
        except TokenizerError as error:
            raise RecordError("tokenizer not installed") from error
        for one, score in zip((ours, theirs), scores, strict=True):
            _check_same_score(one, key, score)
        return scores[0] - scores[1], p

    return run


def _run_mcnemar_test(ours: Run, theirs: Run, key: str, folder: Path) -> tuple[float, float]:
    labels = _read_output_lines(ours, folder, key, "reference")
    if labels != _read_output_lines(theirs, folder, key, "reference"):
        raise RecordError("different test sets")
    right = [
        [
            output == label
            for output, label in zip(_read_output_lines(run, folder, key, "hypothesis"), labels, strict=True)
        ]
        for run in (ours, theirs)
    ]
    accuracies = [100 * sum(one) / len(one) for one in right]
    for run, accuracy in zip((ours, theirs), accuracies, strict=True):
        _check_same_score(run, key, accuracy)
    return accuracies[0] - accuracies[1], mcnemar_test(*right)


def _check_same_score(run: Run, key: str, score: float) -> None:
    """Check that outputs are those that the record's score was computed from."""
    recorded = get_record_value(_get_record(run), key)
    if not isinstance(recorded, (int, float)) or not abs(score - recorded) <= _TOLERANCE:
        raise RecordError("outputs do not match the recorded score")


def _get_record(run: Run) -> Record:
    assert run.record is not None, "a finished run has one"
    return run.record


def _read_output_lines(run: Run, folder: Path, key: str, column: str, form: str = "") -> list[str]:
    """Read a run's output lines for the test set that `key` is a score of, one line per example.

    Raises:
        RecordError: there are none; the message is short enough for a cell.
    """
    kept, stage = folder / run.run_id / OUTPUTS_FOLDER, key.split(".")[1]
    for name in dict.fromkeys((f"{stage}.{form}{column}.txt", f"{stage}.{column}.txt")):
        if (kept / name).is_file():
            try:
                return read_lines(kept / name)
            except DataError as error:
                raise RecordError("outputs cannot be read") from error
    raise RecordError("no outputs kept")


def _write_notes(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    shown = {column.key for column in columns}
    yield (
        "Ours less the baseline's, mean over the seeds that both have, with its 95 % confidence interval (Student's t)"
        f" from three seeds on. *: p below {ALPHA}. All p-values are two-sided and corrected for the comparisons in the"
        " metric (Holm 1979)."
    )
    if "p_seeds" in shown:
        yield (
            "p over seeds: paired t-test, which assumes approximately normal differences. It tests whether the"
            " difference would"
            " also occur with other seeds."
        )
    if "p_bootstrap" in shown:
        yield (
            "p, bootstrap and randomization: sacrebleu's paired bootstrap (1,000 resamples) and approximate"
            " randomization (10,000 trials) over test sentences. They ask whether other sentences would say the same of"
            " these two trained models; of several seeds, which must agree in the sign, the largest p is shown."
        )
    if "p_mcnemar" in shown:
        yield (
            "p, McNemar: exact test over test examples; of several seeds, which must agree in the sign, the largest p"
            " is shown."
        )
