"""What runs leave beside their records, made up: histories, logs and attention, with text that would break a page."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnbench.records import history
from attnbench.records.record import Record, Status, write_record

from .records import make_records

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
        (folder / record.run_id / history.HISTORY_FILE).write_text(text, encoding="utf-8")


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


def write_hostile_sweep(folder: Path) -> Path:
    """Write a sweep that has `HOSTILE` in every text that a page shows, and its layout; the sweep's folder.

    In names and values of the config, metrics, notes, failures, logs, outputs, tokens, names of classes, the commit,
    the layout's title and labels, and a citation.
    """
    sweep = folder / "demo"
    records = make_records(sweep, runs=9, outputs=True)
    records[1].status, records[1].error = Status.failed, {"kind": "raised", "type": HOSTILE, "message": HOSTILE}
    for number, record in enumerate(records):
        record.config["name"] = HOSTILE
        record.config["data"][HOSTILE] = f"{HOSTILE} {number}"
        record.notes = [HOSTILE]
        record.provenance["git"] = {"commit": f"{HOSTILE} {number}"}
        record.performance[HOSTILE] = HOSTILE
        record.metrics["test"] |= {HOSTILE: 1.5, "bleu_signature": HOSTILE}
        write_record(record, sweep / record.run_id)
        kept = sweep / record.run_id
        lines = [{"update": place, "units": place, f"val/{HOSTILE}": 1.0 / place} for place in (1, 2, 3)]
        (kept / history.HISTORY_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        for path in kept.glob("outputs/*.txt"):
            path.write_text(f"{HOSTILE}\n{HOSTILE} {path.name}\n", encoding="utf-8")
        arrays: dict[str, np.ndarray] = {"cross-0.weights": np.full((1, 1, 2, 2), 0.5, np.float32)}
        arrays |= {f"cross-0.{side}": np.array([HOSTILE, "</script>"]) for side in ("queries", "keys")}
        arrays |= {
            "attention-0.weights": np.full((1, 1, 4), 0.25, np.float32),
            "attention-0.rollout": np.full(4, 0.25, np.float32),
            "attention-0.pixels": np.zeros((2, 2, 1)),
            "attention-0.grid": np.array([2, 2]),
            "attention-0.label": np.array(HOSTILE),
            "attention-0.predicted": np.array(HOSTILE),
            "attention-0.confidence": np.array(0.5),
        }
        (kept / "pictures" / "final").mkdir(parents=True)
        np.savez(kept / "pictures" / "final" / "arrays.npz", allow_pickle=False, **arrays)
    (sweep / records[1].run_id / "train.log").write_text(HOSTILE, encoding="utf-8")
    text = json.dumps(HOSTILE)  # which is YAML, too
    (folder / "exp" / "demo").mkdir(parents=True)
    (folder / "exp" / "demo" / "paper.yaml").write_text(
        f"sources: {{x: {{citation: {text}, protocol: {text}}}}}\n"
        f"numbers: [{{source: x, where: {{model.num_heads: 4}}, values: {{metrics.test.bleu: 30}}}}]\n"
    )
    (folder / "exp" / "demo" / "table.yaml").write_text(
        f"title: {text}\nrows: [{{key: model.num_heads, label: {text}, values: {{2: {text}}}}}]\n"
        f"columns: [{{key: metrics.test.bleu, label: {text}, unit: {text}, best: max}}]\n"
        f"baseline: {{model.num_heads: 2}}\ngroups: [{{label: {text}, keys: [model.num_heads]}}]\npaper: paper.yaml\n"
    )
    return sweep


def add_hostile_text(folder: Path, records: Sequence[Record]) -> None:
    """Let a name, a failure, its log and a translation say what would break a page that believed them."""
    failed = next(record for record in records if record.error is not None)
    failed.error = (failed.error or {}) | {"message": HOSTILE, "traceback": f"Traceback\n{HOSTILE}\n"}
    failed.config["name"] = HOSTILE
    write_record(failed, folder / failed.run_id)
    (folder / failed.run_id / "train.log").write_text(f"log: {HOSTILE}\n", encoding="utf-8")
    for path in folder.glob("*/outputs/test.hypothesis.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([f"{lines[0]} {HOSTILE}", *lines[1:]]) + "\n", encoding="utf-8")
