"""What runs leave beside their records, made up: histories, logs and attention, with text that would break a page."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnbench import history
from attnbench.record import Record, Status, write

# It would end a script, begin a tag, close an attribute, or turn the direction of a line.
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"> & '\"` ${1} \N{RIGHT-TO-LEFT OVERRIDE}مرحبا بالعالم"


def add_histories(folder: Path, records: Sequence[Record], entries: int) -> None:
    """A history of `entries` lines for each run that has begun to train, a validation in every tenth."""
    for number, record in enumerate(records):
        noise = random.Random(number)
        lines, units, seconds = [], 0, 0.0
        for place in range(1, entries + 1):
            units += 40_000 + noise.randrange(400)
            seconds += 4 + noise.random()
            loss = 2 + 3 * math.exp(-4 * place / entries) + noise.gauss(0, 0.05)
            entry = {"update": 10 * place, "epoch": 1 + place // 50, "seconds": round(seconds, 3)}
            entry |= {"units": units, "flops": units * 617_600.0}
            if place % 10 == 0:
                lines.append(entry | {"val/loss": round(loss, 6), "val/bleu": round(60 - 10 * loss, 5)})
            logged = {"train/loss": loss, "train/grad_norm": 1 + noise.random(), "train/lr": 0.005 / math.sqrt(place)}
            lines.append(entry | {name: float(f"{value:.7g}") for name, value in logged.items()})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / record.run_id / history.HISTORY).write_text(text, encoding="utf-8")


def add_attention(folder: Path, records: Sequence[Record], probes: int = 2, words: int = 5) -> None:
    """Cross attention of finished runs over `probes` examples."""
    for number, record in enumerate(records):
        if record.status is not Status.finished:
            continue
        noise = np.random.default_rng(number)
        model = record.config["model"]
        arrays = {}
        for probe in range(probes):
            shape = (model["depth"], model["num_heads"], words + 1, words)
            weights = noise.dirichlet(np.full(words, 0.3), size=shape[:3]).astype(np.float32)
            arrays[f"cross-{probe}.weights"] = weights
            arrays[f"cross-{probe}.queries"] = np.array([f"<q{place}>" for place in range(words + 1)])
            arrays[f"cross-{probe}.keys"] = np.array([f"k{place}" for place in range(words)])
        target = folder / record.run_id / "pictures" / "final"
        target.mkdir(parents=True)
        np.savez_compressed(target / "arrays.npz", allow_pickle=False, **arrays)


def add_hostile_text(folder: Path, records: Sequence[Record]) -> None:
    """Let a name, a failure, its log and a translation say what would break a page that believed them."""
    failed = next(record for record in records if record.error is not None)
    failed.error = (failed.error or {}) | {"message": HOSTILE, "traceback": f"Traceback\n{HOSTILE}\n"}
    failed.config["name"] = HOSTILE
    write(failed, folder / failed.run_id)
    (folder / failed.run_id / "train.log").write_text(f"log: {HOSTILE}\n", encoding="utf-8")
    for path in folder.glob("*/outputs/test.hypothesis.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([f"{lines[0]} {HOSTILE}", *lines[1:]]) + "\n", encoding="utf-8")
