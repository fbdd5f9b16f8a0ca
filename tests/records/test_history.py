from __future__ import annotations

import math
from pathlib import Path

import pytest

from attnbench.records import history


@pytest.mark.parametrize("torn", ["", '{"update": 30, "train/lo', '{"update": 30, "train/loss": 1.0', "\0\0\0"])
def test_what_was_written_to_its_end_is_read(tmp_path: Path, torn: str) -> None:
    assert history.read_history(tmp_path) == []
    history.append_entry(tmp_path, {"update": 10, "train/loss": 0.1234567891, "train/grad_norm": math.inf})
    history.append_entry(tmp_path, {"update": 20, "train/loss": math.nan})
    with (tmp_path / history.HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(torn)
    first, second = history.read_history(tmp_path)
    assert first == {"update": 10.0, "train/loss": 0.1234568, "train/grad_norm": math.inf}
    assert second["update"] == 20
    assert math.isnan(second["train/loss"])
    history.truncate_after_update(tmp_path / history.HISTORY_FILE, 20)
    assert len((tmp_path / history.HISTORY_FILE).read_text().splitlines()) == 2
    history.truncate_after_update(tmp_path / history.HISTORY_FILE, 19)
    assert history.read_history(tmp_path) == [first]
    assert list(tmp_path.iterdir()) == [tmp_path / history.HISTORY_FILE]


def test_a_damaged_line_in_the_middle_costs_itself_alone(tmp_path: Path) -> None:
    for update in (10, 20, 30):
        history.append_entry(tmp_path, {"update": update, "train/loss": 1.0})
    path = tmp_path / history.HISTORY_FILE
    first, _, last = path.read_text().splitlines()
    path.write_text(f"{first}\n\0 garbage\n3\n{last}\n" + '{"update": 40, "tr')
    found = history.read_history(tmp_path)
    assert [entry["update"] for entry in found] == [10, 30]
    assert history.count_damaged_lines(tmp_path, len(found)) == 2
    assert history.count_damaged_lines(tmp_path / "nowhere", 0) == 0


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "null",
        "{}",
        "[1]",
        '"a"',
        "garbage",
        '{"update": null}',
        '{"update": 20, "train/loss": [1]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_line_costs_itself_alone(tmp_path: Path, line: str) -> None:
    history.append_entry(tmp_path, {"update": 10, "train/loss": 1.0})
    with (tmp_path / history.HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    history.append_entry(tmp_path, {"update": 30, "train/loss": 3.0})
    assert [entry["update"] for entry in history.read_history(tmp_path)] == [10, 30]
    assert history.truncate_after_update(tmp_path / history.HISTORY_FILE, 30) == 2
    assert len((tmp_path / history.HISTORY_FILE).read_text().splitlines()) == 2
    assert history.truncate_after_update(tmp_path / "no.jsonl", 30) == 0
