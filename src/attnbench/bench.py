"""Command for benchmarks: `attnbench bench attention` prints times and memory as ratios to a baseline."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.benchmarks import peer_environments
from attnbench.benchmarks.configs import (
    DECODING_MODELS,
    DEVICE_MODELS,
    PRECISION,
    TRAINING_MODELS,
    compose_decoding_configs,
    compose_peer_configs,
    compose_training_configs,
)
from attnbench.benchmarks.measurement import measure_suite
from attnbench.benchmarks.results import (
    DEFAULT_LENGTHS,
    NOT_INSTALLED,
    OWN_SUITES,
    PEER_SUITES,
    SCHEMA_VERSION,
    SUITES,
    Benchmark,
    Settings,
    Suite,
    read_benchmark,
    write_benchmark,
)
from attnbench.benchmarks.table import format_tables
from attnbench.config import Config, ConfigError, Fault
from attnbench.data.errors import DataError
from attnbench.data.text_files import write_atomically
from attnbench.process.interrupts import Interrupted
from attnbench.process.output import exit_process, make_command
from attnbench.records.identity import collect_provenance
from attnbench.records.record import RecordError

if TYPE_CHECKING:
    from attnbench.benchmarks.measurement import SuitePlan

PEER_SUITES_NAME = "peers"
_HEAD = """# Benchmarks

Made by `attnbench bench` (`--write`), not by hand. Every row took turns with its baseline in one run, so that
ratios hold where times do not; what a table was measured on stands below it.
"""
_OF = f"of {', '.join(SUITES)}, or {PEER_SUITES_NAME}: the last {len(PEER_SUITES)}"
Configs = dict[str, dict[str, Config]]  # by suite, then by model


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Measure (or read, with --render) and print the tables.

    Returns:
        Exit status: 0, 2 after an error message about the command, 1 if a row failed.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        if list(given[:2]) == ["peers", "install"]:
            return peer_environments.install_environments(given[2:])
        arguments = vars(_build_parser().parse_args(given))
        output, rendered, written, drawn = (arguments.pop(name) for name in ("output", "render", "write", "draw"))
        if rendered is not None:
            _print_tables("".join(format_tables(read_benchmark(record)) for record in rendered), written)
            for record in rendered:
                _draw_figures(read_benchmark(record), drawn)
            return 0
        requested = [
            name for suite in arguments["suites"] for name in (PEER_SUITES if suite == PEER_SUITES_NAME else [suite])
        ]
        settings = Settings(**arguments | {"suites": list(dict.fromkeys(requested))})
        configs = {"training": compose_training_configs, "decoding": compose_decoding_configs} | {
            name: partial(compose_peer_configs, name) for name in PEER_SUITES
        }
        composed = {name: compose(settings) for name, compose in configs.items() if name in settings.suites}
        benchmark = run_benchmark(settings, composed, output)
    except ConfigError as error:
        for fault in error.faults:
            _print_progress(f"attnbench: {fault}")
        return 2
    except (DataError, RecordError, OSError) as error:
        _print_progress(f"attnbench: {error}")
        return 2
    except Interrupted as error:
        _print_progress(f"attnbench: {error}; suites that were done are in {output}")
        return 128 + error.number
    _print_tables(format_tables(benchmark), written)
    _draw_figures(benchmark, drawn)
    errors = [row.error for suite in benchmark.suites for row in suite.rows if row.error is not None]
    return int(any(not error.startswith(NOT_INSTALLED) for error in errors))


def run_benchmark(settings: Settings, configs: Configs, output: Path) -> Benchmark:
    """Measure the requested suites; the record is written after each suite.

    Raises:
        ConfigError: if the device does not exist.
        OSError: if `output` cannot be written.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    # The profiler that counts memory else says in five lines that it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    gpu = settings.device == "cuda"
    if gpu and not torch.cuda.is_available():
        raise ConfigError([Fault("--device", "cuda", "torch finds no GPU here; expected cpu")])
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = torch.cuda.get_device_name() if gpu else "cpu"
    where = collect_provenance({}, device=device, num_threads=torch.get_num_threads())
    benchmark = Benchmark(SCHEMA_VERSION, settings, where, [])
    for name in settings.suites:
        _print_progress(f"{name} ...")
        suite = plan_suite(name, settings, configs.get(name, {}))
        benchmark.suites.append(
            Suite(name, suite.group_name, suite.notes, measure_suite(suite, settings.repeats, _print_progress))
        )
        write_benchmark(benchmark, output)
    return benchmark


def plan_suite(name: str, settings: Settings, configs: dict[str, Config]) -> SuitePlan:
    """Plan the suite `name`.

    Args:
        name: name of the suite.
        settings: options of the command.
        configs: config of each model, for suites with models.
    """
    # Each suite imports no more than it measures: Lightning alone takes seconds.
    if name in ("training", "decoding", "devices"):
        from attnbench.process import lightning_import  # noqa: F401
    if name == "attention":
        from attnbench.benchmarks import attention

        return attention.plan_suite(settings)
    if name == "growth":
        from attnbench.benchmarks import layer_types

        return layer_types.plan_suite(settings)
    if name == "scaling":
        from attnbench.benchmarks import scaling

        return scaling.plan_suite(settings)
    if name == "training":
        from attnbench.benchmarks import training

        return training.plan_suite(settings, configs)
    if name == "decoding":
        from attnbench.benchmarks import decoding

        return decoding.plan_suite(settings, configs)
    if name in PEER_SUITES:
        from attnbench.benchmarks import peer_suites

        return peer_suites.plan_suite(name, settings, configs)
    if name == "devices":
        from attnbench.benchmarks import device_scaling

        return device_scaling.plan_suite(settings)
    from attnbench.benchmarks import startup

    return startup.plan_suite(settings)


def _print_tables(tables: str, path: Path | None) -> None:
    print(tables, end="", flush=True)
    if path is not None:
        write_atomically(path, f"{_HEAD}\n{tables}".encode())


def _draw_figures(benchmark: Benchmark, folder: Path | None) -> None:
    if folder is not None:
        from attnbench.benchmarks.figures import draw_figures

        _print_progress(
            f"drawn: {' '.join(map(str, draw_figures(benchmark, folder))) or 'nothing, for want of a second length'}"
        )


def _print_progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _parse_suite(text: str) -> str:
    if text not in (*SUITES, PEER_SUITES_NAME):
        raise argparse.ArgumentTypeError(f"given {text}; expected some of {', '.join((*SUITES, PEER_SUITES_NAME))}")
    return text


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"given {text}; expected a whole number of at least 1")
    return int(text)


def _parse_counts(text: str) -> list[int]:
    return [_parse_count(part) for part in text.split(",")]


def _parse_names(text: str) -> list[str]:
    return list(dict.fromkeys(text.split(",")))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnbench bench",
        description="Measure speed and memory; print each suite as a table, every row with its ratio to a baseline.",
    )

    def add(name: str, says: str, **how: Any) -> None:
        shown = " (default: %(default)s)" if how.get("default") is not None and name.startswith("--") else ""
        parser.add_argument(name, help=says + shown, **how)

    add(
        "suites",
        f"{_OF}; none: the first {len(OWN_SUITES)}",
        nargs="*",
        metavar="SUITE",
        type=_parse_suite,
        default=list(OWN_SUITES),
    )
    lengths = "; ".join(f"{name}: {','.join(map(str, lengths))}" for name, lengths in DEFAULT_LENGTHS.items())
    add("--lengths", f"attention, growth: of sequences; none: those of the suite ({lengths})", type=_parse_counts)
    add("--batch", "attention, growth: sequences", type=_parse_count, default=1)
    add("--heads", "attention, growth: heads", type=_parse_count, default=4)
    add("--width", "attention, growth: of a head", type=_parse_count, default=32)
    add("--max-gib", "attention, growth: what would hold more is left out", type=float, default=4.0)
    models = {"training": TRAINING_MODELS, "decoding": DECODING_MODELS, "devices": DEVICE_MODELS}
    of_each = "; ".join(f"{name}: {','.join(those)}" for name, those in models.items())
    add("--models", f"{of_each}; or these", type=_parse_names)
    add("--data", "training, devices: a data set in place of the embedded one, found in $ATTNBENCH_DATA")
    add("--updates", "training, devices: in each repeat, beyond --warmup", type=_parse_count, default=20)
    add("--sentences", "decoding: in one batch", type=_parse_count, default=64)
    add("--only", "peers: rows whose names have one of these in them, and this project's", type=_parse_names)
    add("--seconds", "peers: of each turn, at least", type=float, default=3.0)
    add("--test-sentences", "peers: to decode", type=_parse_count, default=250)
    add("--checkpoint", "peers: the weights to decode with, of a run of transformer_multi30k; none: random")
    add("--warmup", "repeats that do not count; training: updates of each repeat", type=_parse_count, default=2)
    add("--repeats", "of every row; rows take turns", type=_parse_count, default=5)
    add("--dtype", "of attention; of models: mixed with float32", choices=tuple(PRECISION), default="float32")
    add("--device", "where to measure", choices=("cpu", "cuda"), default="cpu")
    add("--threads", "that torch computes with; none: what it chooses", type=_parse_count)
    add("--output", "the record", type=Path, default=Path("multirun/bench.json"))
    add("--render", "print the tables of records and measure nothing", type=Path, nargs="+", metavar="RECORD")
    add("--write", "a page for the tables as well, such as BENCHMARKS.md", type=Path, metavar="PAGE")
    add("--draw", "attention, growth, scaling: figures, into a folder", type=Path, metavar="FOLDER")
    return parser


if __name__ == "__main__":
    exit_process(main())
