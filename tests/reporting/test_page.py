"""The page's file: what it holds, how exactly, and what it leaves out."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench.records import history
from attnbench.report import main
from attnbench.reporting import page
from attnbench.reporting.page import write_page
from attnbench.tasks.results import Figure
from attnbench.visualization.attention_maps import AttentionMap
from attnbench.visualization.image_classification import PatchAttention

from .pages import add_attention, add_histories, add_hostile_text
from .records import make_records


def unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def numbers(text: str) -> tuple[dict[str, Any], bytes]:
    head, _, body = unpack(text).partition(b"\n")
    return json.loads(head), body


def part(page: Path, name: str) -> str:
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


def test_curves_keep_four_digits_and_counts_all(tmp_path: Path) -> None:
    entries = [
        {"update": 7 * i, "units": 4_000_097 * i, "flops": 3e5 * 4_000_097 * i, "train/loss": 2 + math.sin(i) / 3}
        for i in range(1, 100)
    ]
    entries.insert(50, {"update": 350, "units": 4_000_097 * 50, "flops": 3e5 * 4_000_097 * 50, "val/bleu": math.inf})
    for entry in entries:
        history.append_entry(tmp_path, entry)
    found = page.read_curves(tmp_path)
    assert found is not None
    header, body = numbers(found.packed)
    assert found.metrics == ["train/loss", "val/bleu"]
    assert header["flops_per_unit"] == pytest.approx(3e5)
    planes = np.frombuffer(body, dtype=np.uint8).reshape(4, -1)
    columns = np.ascontiguousarray(planes.T).view("<f4").reshape(len(header["names"]), header["entries"])
    for name, column in zip(header["names"], columns, strict=True):
        kept = [entry.get(name, math.nan) for entry in entries]
        if name in header["counts"]:
            assert np.cumsum(column, dtype=np.float64).tolist() == kept
        else:
            np.testing.assert_allclose(column, kept, rtol=1e-4)


def test_long_histories_are_thinned_but_for_validations(tmp_path: Path) -> None:
    lines = [{"update": i, "units": i, "val/bleu" if i % 500 == 0 else "train/loss": 1.0} for i in range(1, 5001)]
    (tmp_path / history.HISTORY_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = page.read_curves(tmp_path)
    assert found is not None
    header, _ = numbers(found.packed)
    assert page.MAX_ENTRIES * 0.8 < header["entries"] <= page.MAX_ENTRIES + 10


def keep(folder: Path, *pictures: Figure) -> None:
    """Leave the pictures' arrays as `callbacks.pictures` does."""
    arrays = {f"{one.name}.{key}": array for one in pictures for key, array in one.to_arrays().items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **arrays)


def test_attention_is_kept_to_a_255th_and_a_picture_known_by_its_pixels(tmp_path: Path) -> None:
    folder, noise, probes = tmp_path / "pictures" / "final", np.random.default_rng(0), set()
    weights_LHP = (noise.random((2, 3, 6)) / 6).astype(np.float32)
    pixels_HWC = noise.random((4, 6, 1))
    for name in ("attention-0", "attention-7"):
        patches = PatchAttention(name, pixels_HWC, weights_LHP, weights_LHP[0, 0], (2, 3), "bag", "coat", 0.5)
        keep(folder, patches, AttentionMap("cross-3", weights_LHP.reshape(2, 3, 2, 3), ["a", "b"], ["<s>", "c", "d"]))
        found = {
            header["kind"]: (header, body) for header, body in (numbers(one.packed) for one in page.read_maps(tmp_path))
        }
        assert found.keys() == {"patches", "rollout", "cross"}
        header, body = found["patches"]
        assert (header["said"], header["right"], found["rollout"][0]["shape"]) == ("coat (0.50)", False, [1, 1, 2, 3])
        assert body[36:] == (pixels_HWC * 255).round().astype(np.uint8).tobytes()
        probes.add(header["probe"])
        assert (found["cross"][0]["probe"], found["cross"][0]["columns"]) == ("validation example 4", ["<s>", "c", "d"])
        for kind in ("patches", "cross"):
            header, body = found[kind]
            levels = np.frombuffer(body[:36], dtype=np.uint8).reshape(2, 3, 6)
            kept = levels / 255 * np.array(header["most"])[..., None]
            assert np.abs(kept - weights_LHP).max() <= weights_LHP.max() / 500
    (probe,) = probes
    assert re.fullmatch("bag [0-9a-f]{6}", probe)


def test_room_for_maps_goes_to_every_runs_first_example_first() -> None:
    found = [[page.PackedMap(number, str(run) * 10) for number in (0, 0, 1)] for run in range(3)]
    assert page.select_maps(found, 60) == [["0" * 10] * 2, ["1" * 10] * 2, ["2" * 10] * 2]
    assert page.select_maps(found, 79) == [["0" * 10] * 3, ["1" * 10] * 2, ["2" * 10] * 2]
    assert page.select_maps(found, 45) == [["0" * 10] * 2, ["1" * 10] * 2, []]


def test_the_same_records_give_the_same_page_and_what_runs_say_stays_packed(tmp_path: Path) -> None:
    records = make_records(tmp_path, runs=24, outputs=True)
    add_histories(tmp_path, records, 20)
    add_attention(tmp_path, records)
    add_hostile_text(tmp_path, records)
    first = write_page([tmp_path], tmp_path)
    before = first.path.read_bytes()
    assert first.path == tmp_path / "report" / "index.html"
    assert write_page([tmp_path], tmp_path).path.read_bytes() == before
    assert b"onerror" not in before
    assert before.count(b"</script>") == before.count(b"<script") == 4
    content = json.loads(unpack(part(first.path, "content")))
    assert len(content["runs"]["ids"]) == 24
    assert any("onerror" in failure["log"] for failure in content["failures"])
    small = write_page([tmp_path], tmp_path, tmp_path / "small.html", maps_megabytes=0)
    told = "40 of 40 attention maps are left out: all would take this page over 0 MB of them (--maps-megabytes)."
    assert small.notes == [told]


def test_the_command_writes_one_page_of_several_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {tmp_path / 'nowhere'}: no records of runs here")
    make_records(tmp_path / "a", runs=3)
    make_records(tmp_path / "b", runs=6, name="b")
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert re.match(rf"{tmp_path}/report/index.html: 6 runs, \d.\d MB; open it", capsys.readouterr().out)
