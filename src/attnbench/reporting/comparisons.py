"""Each row against its baseline: over seeds, and over what both said of the test set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.data.errors import DataError
from attnbench.data.text_files import read_lines
from attnbench.metrics.tokenization import TokenizerError
from attnbench.records.record import Record, RecordError
from attnbench.reporting.aggregation import Row, Sorted, Table
from attnbench.reporting.baselines import by_seed, no_baseline, on_common_seeds
from attnbench.reporting.cells import Cell, lookup, number_text, signed
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column, Layout
from attnbench.reporting.runs import ABSENT, Run
from attnbench.reporting.statistics import ALPHA, Paired, Summary, TextTest, holm, least_p, mcnemar, paired, text_test

OUTPUTS = "outputs"  # below a run's folder
_TOLERANCE = 1e-4  # between a score of 0 to 100 in a record, perhaps of single precision, and one computed again
_P = Column("p", digits=4)
_ONE_PAIR, _DISAGREE = "n=1 tells nothing", "seeds disagree"
_SHOWS_NOTHING = (_ONE_PAIR, _DISAGREE)
_COLUMNS = (
    Column("difference", label="less the baseline's"),
    Column("p_seeds", label="p over seeds", digits=4),
    Column("p_bootstrap", label="p, bootstrap", digits=4),
    Column("p_randomisation", label="p, randomisation", digits=4),
    Column("p_mcnemar", label="p, McNemar", digits=4),
)


@dataclass(frozen=True)
class Compared:
    """One row's tests in one column."""

    place: int
    base: int
    over_seeds: Paired | None  # None: no seed in common
    over_outputs: dict[str, float | str]  # by column of ours: the largest p over seeds, or why there is none


def compare(made: Sorted, layout: Layout, folder: Path, where: str, title: str) -> Table:
    """A row for each comparison that the layout's baseline makes, in each column that says which end is better.

    p-values are corrected by Holm's procedure within a column of the table and a kind of test. A test over outputs is
    made for each seed that both rows have, and the largest p counts: the difference is there at every seed.

    Raises:
        RecordError: the layout names no baseline that is there, or no column with an end that is better.
    """
    if not layout.baseline:
        raise RecordError(f"{where}: baseline: expected config keys and values of the row to compare others with")
    if all(base is None for base in made.baselines):
        raise RecordError(f"{where}: baseline: {no_baseline(layout.baseline)} beside others")
    columns = [column for column in made.columns if column.best is not None]
    if not columns:
        raise RecordError(f"{where}: columns: expected best: max or min in the columns that are to be compared")
    rows = [row for column in columns for row in _rows(made, column, folder)]
    keys = (RowKey("metric"), *made.keys)
    shown = [column for index, column in enumerate(_COLUMNS) if any(row.cells[index].value != ABSENT for row in rows)]
    kept = [_COLUMNS.index(column) for column in shown]
    rows = [Row(row.labels, tuple(row.cells[i] for i in kept), ((),) * len(kept), row.group) for row in rows]
    named = ", ".join(f"{key}={value}" for key, value in layout.baseline.items())
    return Table(f"{title}: against {named}", keys, tuple(shown), tuple(rows), tuple(_notes(shown, rows)), marks=())


def _rows(made: Sorted, column: Column, folder: Path) -> Iterator[Row]:
    found = [
        Compared(place, base, _over_seeds(made, place, base, column), _over_outputs(made, place, base, column, folder))
        for place, base in enumerate(made.baselines)
        if base is not None
    ]
    ps: dict[str, list[float | str]] = {"p_seeds": [_p_of(one.over_seeds) for one in found]}
    for name in ("p_bootstrap", "p_randomisation", "p_mcnemar"):
        ps[name] = [one.over_outputs.get(name, ABSENT) for one in found]
    ps = {name: _corrected(values) for name, values in ps.items()}
    for number, one in enumerate(found):
        run_ids = tuple(run.run_id for place in (one.place, one.base) for run in made.rows[place] if run.finished)
        cells = [_difference(one.over_seeds, column, run_ids)]
        for key, values in ps.items():
            pairs = f"n={one.over_seeds.n}" if key == "p_seeds" and one.over_seeds else ""
            cells.append(_p_cell(values[number], pairs, run_ids))
        yield Row((column.heading, *made.labels[one.place]), tuple(cells), ((),) * len(_COLUMNS))


def _corrected(values: list[float | str]) -> list[float | str]:
    """Correct p-values by Holm's procedure; a comparison that was made and shows nothing counts as p = 1."""
    tested = [place for place, p in enumerate(values) if isinstance(p, float) or p in _SHOWS_NOTHING]
    found = list(values)
    adjusted = holm([p if isinstance(p := values[place], float) else 1.0 for place in tested])
    for place, p in zip(tested, adjusted, strict=True):
        if isinstance(values[place], float):
            found[place] = p
    return found


def _over_seeds(made: Sorted, place: int, base: int, column: Column) -> Paired | None:
    ours, theirs = on_common_seeds(made.rows[place], made.rows[base], column)
    return paired(ours, theirs) if ours else None


def _p_of(found: Paired | None) -> float | str:
    if found is None:
        return "no seed in common"
    return _ONE_PAIR if found.p is None else found.p


def _difference(found: Paired | None, column: Column, run_ids: tuple[str, ...]) -> Cell:
    if found is None:
        return Cell(None, "no seed in common", "", "no seed in common", ())
    ends = "" if found.interval is None else f"[{', '.join(signed(end, column) for end in found.interval)}]"
    summary = Summary(found.difference, None, found.n, found.interval)
    spread = f"{ends} (n={found.n})".strip()
    return Cell(summary, signed(found.difference, column), spread, "", run_ids)


def _p_cell(p: float | str, counted: str, run_ids: tuple[str, ...]) -> Cell:
    if isinstance(p, str):
        return Cell(None, p, "", "" if p == ABSENT else p, ())
    text = number_text(p, _P)
    return Cell(Summary(p, None, 1), text, f"({counted})" if counted else "", "", run_ids, differs=p < ALPHA)


def _over_outputs(made: Sorted, place: int, base: int, column: Column, folder: Path) -> dict[str, float | str]:
    """The tests that fit the column, each with its largest p over common seeds."""
    tests = _tests_of(column.key)
    seeds = by_seed(made.rows[place], column).keys() & by_seed(made.rows[base], column).keys()
    ours, theirs = ({run.config["seed"]: run for run in made.rows[at]} for at in (place, base))
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


_OutputTest = Callable[[Run, Run, str, Path], tuple[float, float]]  # ours less theirs, and p


def _tests_of(key: str) -> dict[str, _OutputTest]:
    root, _, place = key.partition(".")
    stage, _, name = place.partition(".")
    if root != "metrics" or stage in ("final", "best"):
        return {}
    if re.fullmatch(r"(bleu|chrf)\w*", name):
        return {"p_bootstrap": _text(TextTest.bootstrap), "p_randomisation": _text(TextTest.randomisation)}
    return {"p_mcnemar": _mcnemar} if name == "accuracy" else {}


def _text(test: TextTest) -> _OutputTest:
    def run(ours: Run, theirs: Run, key: str, folder: Path) -> tuple[float, float]:
        signature = lookup(_record(ours), f"{key}_signature")
        if not isinstance(signature, str):
            raise RecordError("no signature")
        # Text that a model writes tokenised is scored as ordinary text too, and kept in both forms.
        form = "" if "tok:none" in signature else "detokenized."
        hypotheses, references = (
            _lines(ours, folder, key, "hypothesis", form),
            _lines(ours, folder, key, "reference", form),
        )
        others = _lines(theirs, folder, key, "hypothesis", form)
        if references != _lines(theirs, folder, key, "reference", form) or len(hypotheses) != len(others):
            raise RecordError("other test sets")
        try:
            scores, p = text_test(hypotheses, others, references, signature, test)
        except TokenizerError as error:
            raise RecordError("tokenizer not installed") from error
        for one, score in zip((ours, theirs), scores, strict=True):
            _same_score(one, key, score)
        return scores[0] - scores[1], p

    return run


def _mcnemar(ours: Run, theirs: Run, key: str, folder: Path) -> tuple[float, float]:
    labels = _lines(ours, folder, key, "reference")
    if labels != _lines(theirs, folder, key, "reference"):
        raise RecordError("other test sets")
    right = [
        [said == label for said, label in zip(_lines(run, folder, key, "hypothesis"), labels, strict=True)]
        for run in (ours, theirs)
    ]
    accuracies = [100 * sum(one) / len(one) for one in right]
    for run, accuracy in zip((ours, theirs), accuracies, strict=True):
        _same_score(run, key, accuracy)
    return accuracies[0] - accuracies[1], mcnemar(*right)


def _same_score(run: Run, key: str, score: float) -> None:
    """Refuse outputs that are not what the record's score was computed from."""
    recorded = lookup(_record(run), key)
    if not isinstance(recorded, (int, float)) or not abs(score - recorded) <= _TOLERANCE:
        raise RecordError("outputs of another score")


def _record(run: Run) -> Record:
    assert run.record is not None, "a finished run has one"
    return run.record


def _lines(run: Run, folder: Path, key: str, column: str, form: str = "") -> list[str]:
    """What a run left of the test set that `key` is a score of, a line an example.

    Raises:
        RecordError: nothing, in a word or two that a cell has room for.
    """
    kept, stage = folder / run.run_id / OUTPUTS, key.split(".")[1]
    for name in dict.fromkeys((f"{stage}.{form}{column}.txt", f"{stage}.{column}.txt")):
        if (kept / name).is_file():
            try:
                return read_lines(kept / name)
            except DataError as error:
                raise RecordError("outputs cannot be read") from error
    raise RecordError("no outputs kept")


def _notes(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    shown = {column.key for column in columns}
    yield (
        "Ours less the baseline's, mean over the seeds that both have, with its 95 % confidence interval (Student's t)"
        f" from three seeds on. *: p below {ALPHA}. All p-values are two-sided and corrected for the comparisons in the"
        " metric (Holm 1979)."
    )
    if "p_seeds" in shown:
        seeds = max((s.n for row in rows if (s := row.cells[0].summary) is not None), default=0)
        yield (
            "p over seeds: exact paired permutation test (scipy). It asks whether another seed would say the same; "
            f"with {seeds} seed{'s' * (seeds != 1)} it cannot be below {least_p(seeds):g} uncorrected."
        )
    if "p_bootstrap" in shown:
        yield (
            "p, bootstrap and randomisation: sacrebleu's paired bootstrap (1,000 resamples) and approximate"
            " randomisation (10,000 trials) over test sentences. They ask whether other sentences would say the same of"
            " these two trained models; of several seeds, which must agree in the sign, the largest p is shown."
        )
    if "p_mcnemar" in shown:
        yield (
            "p, McNemar: exact test over test examples; of several seeds, which must agree in the sign, the largest p"
            " is shown."
        )
