"""Damaged files: one of them never stops a table or a page, and what is left out is named in a sentence."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from attnbench.config import Config
from attnbench.metrics.text import compute_bleu
from attnbench.records import history
from attnbench.records.record import RECORD_FILE, Record, RecordError
from attnbench.reporting import comparisons, page
from attnbench.reporting.exports import format_trace
from attnbench.reporting.formats import FORMATS
from attnbench.reporting.runs import GROUPS
from attnbench.reporting.tables import load_table, read_sweep_results

from .pages import add_attention, add_histories
from .records import make_records

LAYOUT = """
rows: [model.depth, model.num_heads]
columns:
  - {key: metrics.test.bleu, best: max, spread: interval, change: true, above: metrics.test.yardsticks.unigram_loss}
  - {key: performance.step_ms_p50}
baseline: {model.num_heads: 2}
figures:
  - {name: curves, kind: curves, y: train/loss, x: seconds, group: [model.num_heads]}
  - {name: bins, kind: bins, y: metrics.test.by_source_words.*.bleu, group: [model.num_heads]}
  - {name: lines, kind: lines, y: metrics.test.bleu, x: model.num_heads}
  - {name: cost, kind: pareto, y: metrics.test.bleu, x: parameters.total}
  - {name: heat, kind: heatmap, y: metrics.test.bleu, x: model.num_heads, group: [model.depth]}
  - {name: atlas, kind: attention, y: cross-0}
"""
VALUES = [None, [], {}, True, -1, 10**400, 1e308, "", "NaN", "\ud800", [[1], {"a": 2}], {"a": {"b": []}}, "x" * 5000]
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A small sweep with all that runs leave, and its layout in exp/demo."""
    folder = tmp_path_factory.mktemp("damage")
    records = make_records(folder / "demo", runs=9, outputs=True)
    add_histories(folder / "demo", records, 20)
    add_attention(folder / "demo", records, probes=1, words=2)
    (folder / "exp" / "demo").mkdir(parents=True)
    (folder / "exp" / "demo" / "table.yaml").write_text(LAYOUT)
    return folder, records


def show(folder: Path) -> str:
    """Make all that tables and the page show, but for drawings; the Markdown and the page's notes."""
    source = read_sweep_results(folder / "demo", folder / "exp")
    table = source.build_table()
    texts = [render(table) for _, render in FORMATS.values()] + [format_trace(table)]
    texts += [FORMATS["json"][1](source.build_comparisons()), FORMATS["json"][1](source.build_effects())]
    written = page.write_page([folder / "demo"], folder / "exp", folder / "page.html")
    for text in texts:
        text.encode("utf-8")
    return "\n".join([FORMATS["markdown"][1](table), *written.notes])


@functools.cache
def score_of(said: tuple[str, ...], references: tuple[str, ...], lowercase: bool) -> float:
    return compute_bleu(said, references, lowercase=lowercase).score


def quick_test(
    ours: list[str], baseline: list[str], references: list[str], signature: str, test: Any
) -> tuple[tuple[float, float], float]:
    """The scores of sacrebleu's paired tests without their thousand resamples."""
    first, second = (score_of(tuple(said), tuple(references), "case:lc" in signature) for said in (ours, baseline))
    return (first, second), 0.5


def paths_in(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def mutate_json(text: str, rng: random.Random) -> str:
    """Replace, remove or rename the value at one place."""
    content = json.loads(text)
    *path, last = rng.choice(list(paths_in(content)))
    holder = content
    for key in path:
        holder = holder[key]
    act = rng.randrange(8)
    if act == 0:
        del holder[last]
    elif act == 1 and isinstance(holder, dict):
        holder[f"{last} \ud800"] = holder.pop(last)
    else:
        holder[last] = rng.choice(VALUES)
    return json.dumps(content)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite or add some bytes."""
    at = rng.randrange(len(content) + 1)
    some = rng.choice([b"\xff", b"\0", b"3\n", b"null\n", b"{}\n", b"[\n", b'"', b"\r", b"1e999", DEEP.encode()])
    return content[:at] + rng.choice([b"", some]) + content[at + rng.choice([0, 1, 30, 10**6]) :]


def mutate(path: Path, before: bytes, rng: random.Random) -> bytes:
    if path.suffix == ".json" and rng.random() < 0.8:
        return mutate_json(before.decode(), rng).encode()
    if path.name == history.HISTORY_FILE and rng.random() < 0.7:
        lines = before.decode().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = rng.choice([mutate_json(lines[at], rng), "3", "null", "{}", "[]", '{"update": "x"}', DEEP])
        return "\n".join(lines).encode() + b"\n"
    return mutate_bytes(before, rng)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_never_stop_a_table_or_a_page(
    sweep: tuple[Path, list[Record]], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    folder, _ = sweep
    monkeypatch.setattr(comparisons, "paired_output_test", quick_test)
    # Without plotly, which takes half a second to pack.
    monkeypatch.setattr(page, "_fill_template", lambda content, lines: page.pack_json(content) + "".join(lines))
    rng = random.Random(seed)
    whole = show(folder)
    left = [path for path in sorted((folder / "demo").rglob("*")) if path.is_file() and path.name != "plan.json"]
    names = ["run.json", history.HISTORY_FILE, "test.hypothesis.txt", "test.reference.txt", "arrays.npz"]
    for _ in range(40):
        name = rng.choice(names)
        path = rng.choice([path for path in left if path.name == name])
        before = path.read_bytes()
        path.write_bytes(after := mutate(path, before, rng))
        try:
            show(folder)
        except Exception as error:
            error.add_note(f"{name}: {after[:3000]!r}")
            raise
        finally:
            path.write_bytes(before)
    assert show(folder) == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"config": {"trainer": None}}, "config.trainer: expected keys with values, given None"),
        ({"config": {"model": [1]}}, "config.model: expected keys with values, given [1]"),
        ({"config": {"seed": []}}, "config.seed: expected a whole number, given []"),
        ({"config": {"sweep": {"table": 3}}}, "config.sweep.table: expected text, given 3"),
        ({"run_id": "../x"}, "run_id: expected letters, digits, - and _, given '../x'"),
        ({"metrics": None}, "metrics: expected keys with values, given None"),
        ({"schema_version": [2]}, "schema version [2], where this attnbench reads 1 and 2"),
    ],
)
def test_a_record_with_wrong_types_is_left_out_and_named(
    sweep: tuple[Path, list[Record]], change: dict[str, Any], sentence: str
) -> None:
    folder, records = sweep
    content = json.loads((folder / "demo" / records[0].run_id / RECORD_FILE).read_text())
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    assert_left_out(folder, records[0], json.dumps(content), sentence)


def test_a_config_without_its_trainer_is_left_out_and_named(sweep: tuple[Path, list[Record]]) -> None:
    folder, records = sweep
    content = json.loads((folder / "demo" / records[0].run_id / RECORD_FILE).read_text())
    del content["config"]["trainer"]
    assert_left_out(folder, records[0], json.dumps(content), "config: trainer is missing")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (DEEP, "not valid JSON: nested too deeply"),
        ("[" + "9" * 400 + "]", "not valid JSON: a number of 400 digits, which no computation takes"),
        ("\0", "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_a_file_that_is_no_record_is_left_out_and_named(
    sweep: tuple[Path, list[Record]], text: str, sentence: str
) -> None:
    folder, records = sweep
    assert_left_out(folder, records[0], text, sentence)


def assert_left_out(folder: Path, record: Record, text: str, sentence: str) -> None:
    """Assert that table and page are there without the record, and say so in one sentence that says what to do."""
    path = folder / "demo" / record.run_id / RECORD_FILE
    before = path.read_bytes()
    path.write_text(text)
    try:
        table = read_sweep_results(folder / "demo", folder / "exp").build_table()
        written = page.write_page([folder / "demo"], folder / "exp", folder / "page.html")
    finally:
        path.write_bytes(before)
    for notes in (table.notes, written.notes):
        (said,) = [note for note in notes if note.startswith(f"demo/{record.run_id}/run.json: {sentence}")]
        assert said.endswith("; left out: restore the file, or move it away and run this run again")
    assert all(record.run_id not in cell.run_ids for row in table.rows for cell in row.cells)


def test_a_plan_with_wrong_types_is_refused_in_a_sentence(tmp_path: Path) -> None:
    make_records(tmp_path / "demo", runs=3)
    path = tmp_path / "demo" / "plan.json"
    content = json.loads(path.read_text())
    (tmp_path / "demo" / content["runs"][1]["run_id"] / RECORD_FILE).unlink()
    del content["runs"][1]["config"]["trainer"]
    path.write_text(json.dumps(content))
    way_on = "restore the file, or move it away to continue without a plan"
    for make in (load_table, lambda folder, layouts: page.write_page([folder], layouts)):
        with pytest.raises(RecordError, match=rf"plan.json: runs\[1\]: config: trainer is missing; {way_on}$"):
            make(tmp_path / "demo", tmp_path)


def test_groups_are_those_of_the_config() -> None:
    assert set(GROUPS) == {field.name for field in fields(Config)} - {"name", "seed"}


@pytest.mark.parametrize("line", ["3", "null", "{}", "[]", '{"update": "x"}', '{"update": 1, "train/loss": []}', DEEP])
def test_a_line_of_a_history_that_cannot_be_read_is_left_out_and_counted(
    sweep: tuple[Path, list[Record]], line: str
) -> None:
    folder, records = sweep
    path = folder / "demo" / records[0].run_id / history.HISTORY_FILE
    before = path.read_text()
    lines = before.splitlines()
    lines[10] = line
    path.write_text("\n".join(lines) + '\n{"update": 9, "trai')  # what a kill leaves is no damage
    try:
        assert len(history.read_history(path.parent)) == len(lines) - 1
        notes = show(folder)
    finally:
        path.write_text(before)
    assert f"{records[0].run_id}/history.jsonl: 1 line cannot be read, and are left out of the curves." in notes
    assert "1 line of history.jsonl cannot be read, and is left out." in notes


def test_one_invalid_byte_in_outputs_costs_a_character_of_the_page(sweep: tuple[Path, list[Record]]) -> None:
    folder, records = sweep
    path = folder / "demo" / records[0].run_id / "outputs" / "test.hypothesis.txt"
    before = path.read_bytes()
    path.write_bytes(b"\xff" + before)
    try:
        found = page.read_outputs(path.parents[1])["hypothesis"]
        p = json.loads(FORMATS["json"][1](read_sweep_results(folder / "demo", folder / "exp").build_comparisons()))
    finally:
        path.write_bytes(before)
    assert found[0] == "\N{REPLACEMENT CHARACTER}" + before.decode().split("\n")[0]
    assert "outputs cannot be read" in {row["cells"]["p_bootstrap"]["value"] for row in p["rows"]}


def test_halves_of_characters_are_shown_as_unknown_ones(sweep: tuple[Path, list[Record]]) -> None:
    folder, records = sweep
    record = records[0]
    path = folder / "demo" / record.run_id / RECORD_FILE
    before = path.read_bytes()
    content = json.loads(before)
    content["notes"], content["config"]["paths"]["data"] = ["from \udcff.txt"], "\udcff"
    path.write_text(json.dumps(content))
    try:
        assert "from \N{REPLACEMENT CHARACTER}.txt" in show(folder)
    finally:
        path.write_bytes(before)
