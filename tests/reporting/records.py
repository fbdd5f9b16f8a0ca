"""A sweep's folder as runs would leave it, holes and failures included: for tests of tables, figures and pages."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnbench.config import Config
from attnbench.metrics.text import compute_bleu, compute_chrf
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.record import SCHEMA_VERSION, FailureReason, Plan, PlannedRun, Record, Status, write_record
from attnbench.sweeps.plan import compose_run

# Slowest first; three seeds of each setting. Learning rates are only added where more runs are asked for.
AXES: dict[str, tuple[Any, ...]] = {
    "optim.lr": tuple(round(0.001 + 0.0005 * step, 4) for step in range(50)),
    "attention.score": ("scaled_dot", "additive"),
    "model.norm_placement": ("pre", "post"),
    "model.depth": (1, 2, 3, 4, 6),
    "model.num_heads": (2, 4),
}
SETTINGS = 40  # at one learning rate
# What became of a setting's first, second and third seed; of all others: finished.
FATES: dict[int, tuple[str, str, str]] = {
    3: ("finished", "raised", "finished"),
    7: ("diverged", "diverged", "diverged"),
    9: ("absent", "absent", "absent"),
    11: ("killed", "memory", "finished"),
    13: ("finished", "finished", "nan"),
    15: ("interrupted", "running", "finished"),
    17: ("nan", "nan", "nan"),
    20: ("absent", "finished", "finished"),
    25: ("untested", "finished", "finished"),
}
_ERRORS = {
    "raised": (FailureReason.raised, "ValueError", "expected 2 axes, found 3"),
    "diverged": (FailureReason.diverged, "TrainingError", "the loss is nan at update 40"),
    "killed": (FailureReason.killed, "Killed", "killed by signal 9 (Killed)"),
    "memory": (FailureReason.memory, "OutOfMemoryError", "CUDA out of memory"),
    "interrupted": (FailureReason.interrupted, "Interrupted", "stopped by SIGTERM"),
}
_TEXT = "ein mann in einem blauen hemd steht auf einer leiter und putzt das grosse fenster am haus neben dem hund"
_WORDS = _TEXT.split()
_SIGNATURE = "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:2.6.0"


def make_records(
    folder: Path, runs: int = 120, seeds: int = 3, *, outputs: bool = False, name: str = "demo"
) -> list[Record]:
    """Write plan.json and a run.json each below `folder`, and what the finished ones said of the test set.

    The same arguments give the same bytes. With `outputs`, the files that a run leaves of the test set, and the scores
    that they have.

    Returns:
        The records there are, in the order of the plan; planned runs that have none are left out.
    """
    plan, records = [], []
    for number, (config, fate) in enumerate(_planned(runs, seeds, name)):
        held, identity = config_to_dict(config), compute_run_id(config)
        plan.append(PlannedRun(identity, [f"seed={config.seed}"], held))
        if fate != "absent":
            record = _record(config, held, identity, fate, number)
            if outputs and fate == "finished":
                _write_outputs(record, folder / identity / "outputs")
            write_record(record, folder / identity)
            records.append(record)
    write_record(Plan(SCHEMA_VERSION, name, [f"sweep.name={name}"], plan), folder)
    return records


def made_up(run: PlannedRun) -> Record:
    """A finished record of any planned run of a translator: numbers follow from its run_id."""
    rng = random.Random(run.run_id)
    report = {name: rng.uniform(20, 40) for name in ("bleu", "bleu_tokenized", "chrf")} | {
        "perplexity": rng.uniform(4, 9)
    }
    return Record(
        SCHEMA_VERSION,
        run.run_id,
        run.config["name"],
        run.config["sweep"]["name"],
        Status.finished,
        run.config,
        run.overrides,
        run.config["seed"],
        {"git": None},
        {"total": 2_600_000},
        {"final": {"update": 8000, **report}, "best": {}, "test": report, "test_2017_flickr": report},
        {"target_tokens_per_sec_global": 6000.0},
        [],
        None,
        None,
        {"train_seconds": 100.0},
    )


def _planned(runs: int, seeds: int, name: str) -> Iterator[tuple[Config, str]]:
    base = compose_run(["experiment=synthetic_translation", f"sweep.name={name}"])
    settings = itertools.islice(itertools.product(*AXES.values()), math.ceil(runs / seeds))
    for number, (values, seed) in enumerate(itertools.product(settings, range(1, seeds + 1))):
        if number == runs:
            return
        config = copy.deepcopy(base)
        config.seed = seed
        for key, value in zip(AXES, values, strict=True):
            group, field = key.split(".")
            node = getattr(config, group)
            enum = type(getattr(node, field))
            setattr(node, field, enum[value] if isinstance(value, str) else value)
        fates = FATES.get(number // seeds % SETTINGS, ("finished",) * 3)
        yield config, fates[(seed - 1) % 3]


def _quality(record: Record) -> float:
    """BLEU: effects of each factor, an interaction of norm with depth, and noise of the seed."""
    model, score = record.config["model"], record.config["attention"]["score"]
    found = 24 + 2.5 * math.log2(model["depth"]) + 0.5 * math.log2(model["num_heads"])
    found += 1.0 * (score == "additive")
    found -= (0.8 * model["depth"] - 1) * (model["norm_placement"] == "post")
    return found + random.Random(f"{record.run_id} {record.seed}").gauss(0, 0.6)


def _record(config: Config, held: dict[str, Any], identity: str, fate: str, number: int) -> Record:
    status = {"nan": "finished", "untested": "finished", "interrupted": "interrupted", "running": "running"}
    named = Status[status.get(fate, "finished" if fate == "finished" else "failed")]
    kind, error, message = _ERRORS.get(fate, (None, "", ""))
    record = Record(
        schema_version=SCHEMA_VERSION,
        run_id=identity,
        name=config.name,
        sweep=config.sweep.name,
        status=named,
        config=held,
        overrides=[f"seed={config.seed}"],
        seed=config.seed,
        provenance={
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "versions": {"python": "3.11.7", "torch": "2.15.0", "sacrebleu": "2.6.0"},
            "platform": "Linux",
            "cpu": "A CPU",
            "cpu_cores": 2,
            "threads": 1,
            "device": "cpu",
            "data": {f"synthetic/{part}": f"{part:0<64}" for part in ("train", "val", "test")},
        },
        parameters={},
        metrics={"final": {}, "best": {}, "test": {}},
        performance={},
        notes=[],
        tracker={"kind": "wandb", "mode": "offline", "project": "attnbench", "group": "demo", "id": identity},
        error=None
        if kind is None
        else {"kind": kind.value, "type": error, "message": message, "traceback": f"Traceback\n{error}: {message}\n"},
        time={
            "started": f"2026-01-{1 + number // 96 % 28:02d}T{number // 4 % 24:02d}:{number % 4 * 15:02d}:00+00:00",
            "ended": None if fate == "running" else "2026-03-01T00:00:00+00:00",
            "train_seconds": 60.0 + number % 7,
        },
    )
    if fate not in ("killed", "raised"):
        _fill(record, fate)
    return record


def _fill(record: Record, fate: str) -> None:
    model = record.config["model"]
    total = 50_000 + 90_000 * model["depth"]
    record.parameters = {"total": total, "trainable": total}
    found = math.nan if fate in ("nan", "diverged") else round(_quality(record), 4)
    loss = math.nan if math.isnan(found) else round(4 - found / 12, 6)
    report = {
        "loss": loss,
        "perplexity": math.exp(loss),
        "bleu": found,
        "bleu_signature": _SIGNATURE,
        "chrf": found + 25,
        "chrf_signature": "nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
    }
    if record.status is not Status.running:
        record.metrics["final"] = {"update": 300, "epoch": 5, **report}
        record.metrics["best"] = {"update": 240, "epoch": 4, **report}
    if fate in ("finished", "nan"):
        bins = {"1-5": 12, "6-10": 16, "11-15": 8, "16+": 4}
        record.metrics["test"] = {
            **report,
            "yardsticks": {"unigram_loss": 4.1},
            "by_source_words": {
                name: {"bleu": found - 2 * place, "sentences": n} for place, (name, n) in enumerate(bins.items())
            },
        }
    rate = 20_000.0 / model["depth"] + record.seed
    record.performance = {
        "target_tokens_per_sec_global": rate,
        "target_tokens_per_sec_per_device": rate,
        "step_ms_p50": 4096e3 / rate,
        "step_ms_p95": 5000e3 / rate,
        "padding": 0.03,
        "steps": 290,
        "peak_rss_gib": 1.1,
        "warmup_steps": 10,
        "devices": 1,
        "threads": 1,
        "device": "cpu",
        "flops_per_unit": 6.0 * total,
        "flops_method": "hand count",
        "mfu": None,
    }


def _write_outputs(record: Record, folder: Path) -> None:
    """Forty sentences; each word of a translation is right as often as the run is good."""
    folder.mkdir(parents=True, exist_ok=True)
    text, noise = random.Random(0), random.Random(record.run_id)
    right = min(0.98, 0.6 + record.metrics["test"]["bleu"] / 100)
    lines: dict[str, list[str]] = {"source": [], "reference": [], "hypothesis": []}
    for length in (3, 8, 12, 18) * 10:
        words = text.choices(_WORDS, k=length)
        lines["source"].append(" ".join(word[::-1] for word in words))
        lines["reference"].append(" ".join(words))
        lines["hypothesis"].append(" ".join(w if noise.random() < right else noise.choice(_WORDS) for w in words))
    for column, said in lines.items():
        (folder / f"test.{column}.txt").write_text("".join(f"{line}\n" for line in said), encoding="utf-8")
    for name, metric in (("bleu", compute_bleu), ("chrf", compute_chrf)):
        found = metric(lines["hypothesis"], lines["reference"], lowercase=True)
        record.metrics["test"] |= {name: found.score, f"{name}_signature": found.signature}
