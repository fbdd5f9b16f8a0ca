"""What the page holds of a run beside its record, packed: curves, outputs of the test set, attention."""

# Shapes: L layers, H heads, R rows and C columns of a map, E entries of a history, S series of numbers

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.data.text_files import split_lines
from attnbench.history import count_damaged_lines, read
from attnbench.report.atlas import READ_ERRORS

ENTRIES = 2000  # of a history; where there are more, evenly spaced ones are kept, and every validation
OUTPUTS = 50  # sentences of the test set
_MANTISSA = np.uint32(0xFFFFFC00)  # 13 bits: four digits, and a third of the bytes
_COUNTS = ("update", "epoch", "units")
_LEVELS = 255  # steps between nothing and a head's largest weight


def pack(content: bytes) -> str:
    """Compressed, in letters that no HTML is made of: what is in it can break nothing."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def pack_json(content: Any) -> str:
    """`content` as JSON, packed."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return pack(text.encode("utf-8", errors="replace"))


def pack_numbers(header: Mapping[str, Any], body: bytes) -> str:
    """A line of JSON and the bytes that it describes, packed."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    return pack(text.encode("utf-8", errors="replace") + b"\n" + body)


@dataclass(frozen=True)
class Curves:
    """A run's history, packed."""

    packed: str
    metrics: list[str]  # what is logged in it
    damaged: int  # lines that cannot be read, and are left out


def curves(folder: Path) -> Curves | None:
    """Pack the history in a run's folder; None where there is none.

    Its numbers are SE float32, NaN where an entry has none, to four digits; counts are exact, each as what it adds to
    the one before. First come all lowest bytes, then the next, which compresses better.
    """
    found = read(folder)
    damaged = count_damaged_lines(folder, len(found))
    entries = _thinned(found)
    if not entries:
        return None
    names = list(dict.fromkeys(name for entry in entries for name in entry if name != "flops"))
    rows = [np.array([entry.get(name, np.nan) for entry in entries]) for name in names]
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number stays none
        numbers_SE = np.stack(
            [np.diff(row, prepend=0) if n in _COUNTS else _rounded(row) for n, row in zip(names, rows, strict=True)]
        ).astype("<f4")
    last = entries[-1]
    per_unit = last["flops"] / last["units"] if "flops" in last and last.get("units") else math.nan
    header = {"names": names, "counts": _COUNTS, "entries": len(entries)}
    header["flops_per_unit"] = per_unit if math.isfinite(per_unit) else None
    planes = np.ascontiguousarray(numbers_SE.view(np.uint8).reshape(-1, 4).T)
    return Curves(pack_numbers(header, planes.tobytes()), [name for name in names if "/" in name], damaged)


def _rounded(row_E: np.ndarray) -> np.ndarray:
    numbers_E = row_E.astype("<f4")
    bits_E = numbers_E.view(np.uint32)
    return np.where(np.isfinite(numbers_E), ((bits_E + np.uint32(0x200)) & _MANTISSA).view("<f4"), numbers_E)


def _thinned(entries: list[dict[str, float]]) -> list[dict[str, float]]:
    step = -(-len(entries) // ENTRIES)
    return [
        entry
        for place, entry in enumerate(entries)
        if place % step == 0 or any(name.startswith("val/") for name in entry)
    ]


def outputs(folder: Path) -> dict[str, list[str]]:
    """The first lines of the test set in a run's folder, by column; empty where it has not been tested."""
    found = {}
    for column in ("source", "reference", "hypothesis"):
        path = folder / "outputs" / f"test.{column}.txt"
        if not path.is_file():
            return {}
        # A byte that is not UTF-8 is shown as U+FFFD: it costs a character, not the page.
        found[column] = split_lines(path.read_bytes().decode("utf-8", errors="replace"))[:OUTPUTS]
    # A sentence that lacks its reference cannot be shown.
    return found if len({len(lines) for lines in found.values()}) == 1 else {}


@dataclass(frozen=True)
class Map:
    """One example's attention, all layers and heads, packed."""

    number: int  # the example's: 0 is the first probe
    packed: str


def maps(folder: Path) -> Iterator[Map]:
    """The attention that a run has left of its probe, in a byte a weight: a 255th of its head's largest."""
    path = folder / "pictures" / "final" / "arrays.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = {name.rpartition(".")[0]: None for name in arrays.files}
            for name in names:
                kind, _, number = name.rpartition("-")
                found = {key.rpartition(".")[2]: arrays[key] for key in arrays.files if key.startswith(f"{name}.")}
                if {"weights", "queries", "keys"} <= found.keys():
                    yield Map(int(number), _of_tokens(kind, int(number), found))
                elif {"weights", "pixels", "grid", "rollout"} <= found.keys():
                    yield Map(int(number), _of_patches("patches", found, found["weights"]))
                    yield Map(int(number), _of_patches("rollout", found, found["rollout"][None, None]))
    except READ_ERRORS:  # none was drawn, or half of it
        return


def _of_tokens(kind: str, number: int, found: Mapping[str, np.ndarray]) -> str:
    header = {
        "kind": kind,
        "probe": f"validation example {number + 1}",
        "rows": found["queries"].tolist(),
        "columns": found["keys"].tolist(),
    }
    return _packed(header, found["weights"], b"")


def _of_patches(kind: str, found: Mapping[str, np.ndarray], weights_LHP: np.ndarray) -> str:
    rows, columns = (int(count) for count in found["grid"])
    pixels_HWC = np.clip(found["pixels"] * 255, 0, 255).round().astype(np.uint8)
    label, predicted = str(found["label"]), str(found["predicted"])
    # Which pictures are shown hangs on what a run gets wrong: the same picture is known by its pixels.
    mark = hashlib.sha256(pixels_HWC.tobytes()).hexdigest()[:6]
    header = {
        "kind": kind,
        "probe": f"{label} {mark}",
        "rows": _counted("row", rows),
        "columns": _counted("column", columns),
        "picture": pixels_HWC.shape,
        "said": f"{predicted} ({float(found['confidence']):.2f})",
        "right": label == predicted,
    }
    return _packed(header, weights_LHP.reshape(*weights_LHP.shape[:2], rows, columns), pixels_HWC.tobytes())


def _counted(word: str, count: int) -> list[str]:
    return [f"{word} {place + 1}" for place in range(count)]


def _packed(header: dict[str, Any], weights_LHRC: np.ndarray, rest: bytes) -> str:
    weights_LHRC = np.nan_to_num(weights_LHRC.astype(np.float32))
    most_LH = weights_LHRC.max((2, 3))
    scale_LH11 = np.where(most_LH > 0, most_LH, 1)[..., None, None]
    levels = (weights_LHRC.clip(0) / scale_LH11 * _LEVELS).round().astype(np.uint8)
    header |= {"shape": levels.shape, "most": [[float(f"{most:.5g}") for most in row] for row in most_LH.tolist()]}
    return pack_numbers(header, levels.tobytes() + rest)


def within(found: Sequence[Sequence[Map]], limit: int) -> list[list[str]]:
    """Of each run's maps, what fits into `limit` letters together: every run's first example before any second."""
    kept: list[list[str]] = [[] for _ in found]
    left = limit
    order = sorted((one.number, run) for run, maps_ in enumerate(found) for one in maps_)
    for number, run in dict.fromkeys(order):
        example = [one.packed for one in found[run] if one.number == number]
        size = sum(map(len, example))
        if size > left:
            break
        left -= size
        kept[run] += example
    return kept
