"""Disturb real commands at random and check what they do: `make chaos ARGS='--seed 1 --rounds 5'`.

Each check starts `attnbench` as a user does, in a folder of its own. It disturbs the command (signals, killed
processes, damaged files, limits on memory and file size) and repeats the same command until it succeeds. A check holds
if the result equals the result without disturbance, if no command hangs, and if no command prints a traceback. All
random numbers come from the seed. The last lines are a table of all checks; the exit status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

SMALL = [
    "experiment=synthetic_translation", "model=toy", "data.train_pairs=400", "data.val_pairs=40", "data.test_pairs=40",
    "trainer.max_epochs=null", "trainer.max_steps=60", "trainer.save_every_minutes=0.01", "trainer.num_threads=1",
    "logger=none", "callbacks=quiet",
]  # fmt: skip
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TIMEOUT_SECONDS = 180.0
TRACEBACK = "Traceback (most recent call last)"


class Unexpected(Exception):
    """Raised when a check does not hold."""


@dataclass
class Ended:
    """A command that has ended."""

    status: int
    output: str
    seconds: float


@dataclass
class Check:
    """Results of one kind of disturbance."""

    name: str
    tried: int = 0
    interrupted: int = 0  # disturbances that hit the command before it was done
    failures: list[str] = field(default_factory=list)


class Chaos:
    """Commands in one temporary folder, and the results without disturbance."""

    def __init__(self, folder: Path, generator: random.Random) -> None:
        self.folder, self.random = folder, generator
        self.references: dict[tuple[str, ...], tuple[dict[str, Any], float]] = {}
        self.count = 0

    def start(self, arguments: Sequence[str], limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "attnbench", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, preexec_fn=limit, env=os.environ | {"WANDB_MODE": "offline"},
        )  # fmt: skip

    def wait(self, process: subprocess.Popen[str], started: float) -> Ended:
        """Wait for a command.

        Raises:
            Unexpected: it does not end.
        """
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            kill_group(process)
            output, _ = process.communicate()
            raise Unexpected(f"no end within {TIMEOUT_SECONDS:.0f} s: {last_line(output)}") from None
        return Ended(process.returncode, output, time.monotonic() - started)

    def run(self, arguments: Sequence[str], limit: Callable[[], None] | None = None) -> Ended:
        """Run a command to its end."""
        started = time.monotonic()
        return self.wait(self.start(arguments, limit), started)

    def new_name(self) -> str:
        """Return an unused sweep name."""
        self.count += 1
        return f"c{self.count}"

    def get_reference(self, options: Sequence[str]) -> tuple[dict[str, Any], float]:
        """Return the results by run_id without disturbance, and the seconds that the command takes."""
        key = tuple(options)
        if key not in self.references:
            name = self.new_name()
            ended = self.run(["train", *options, f"sweep.name={name}"])
            if ended.status != 0:
                raise Unexpected(f"the undisturbed command fails: {last_line(ended.output)}")
            self.references[key] = (self.read_results(name), ended.seconds)
        return self.references[key]

    def read_results(self, name: str) -> dict[str, Any]:
        """Return status and test metrics of all runs of a sweep, by run_id."""
        found = {}
        for path in sorted((self.folder / "multirun" / name).glob("*/run.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            found[path.parent.name] = (record["status"], record["metrics"]["test"])
        return found

    def find_run_folder(self, name: str) -> Path | None:
        """Return the folder of a sweep's first run, if there is one."""
        return next((path for path in sorted((self.folder / "multirun" / name).glob("*")) if path.is_dir()), None)

    def finish(self, options: Sequence[str], name: str) -> None:
        """Repeat a command until it succeeds, and compare its results with the undisturbed ones.

        Raises:
            Unexpected: the results differ, or the command fails.
        """
        ended = self.run(["train", *options, f"sweep.name={name}"])
        check_output(ended)
        if ended.status != 0:
            raise Unexpected(f"the repeated command ends with status {ended.status}: {last_line(ended.output)}")
        expected, _ = self.get_reference(options)
        results = self.read_results(name)
        if results != expected:
            raise Unexpected(f"other results than without disturbance: {first_difference(results, expected)}")


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a command and its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def list_children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, open_ = [], [pid]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def last_line(text: str) -> str:
    """Return the last line of output that is not empty."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no output"


def check_output(ended: Ended) -> None:
    """Check that a command printed no traceback.

    Raises:
        Unexpected: it did.
    """
    if TRACEBACK in ended.output:
        raise Unexpected(f"traceback: {last_line(ended.output)}")


def first_difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Describe the first difference between results."""
    for run_id in sorted(found.keys() | expected.keys()):
        if found.get(run_id) != expected.get(run_id):
            return f"{run_id}: {str(found.get(run_id))[:100]}, expected {str(expected.get(run_id))[:100]}"
    return "none"


def kill_run(chaos: Chaos) -> bool:
    """Kill a single run up to three times with SIGKILL."""
    return _kill_repeatedly(chaos, SMALL)


def kill_sweep(chaos: Chaos) -> bool:
    """Kill the command of a sweep with two workers and all its processes."""
    return _kill_repeatedly(chaos, ["-m", *SMALL, "seed=1,2,3", "sweep.workers=2"])


def _kill_repeatedly(chaos: Chaos, options: Sequence[str]) -> bool:
    _, seconds = chaos.get_reference(options)
    name, hit = chaos.new_name(), False
    for _ in range(chaos.random.randint(1, 3)):
        process = chaos.start(["train", *options, f"sweep.name={name}"])
        time.sleep(chaos.random.uniform(0.3, seconds))
        hit |= process.poll() is None
        kill_group(process)
        process.communicate()
    chaos.finish(options, name)
    return hit


def kill_supervisor(chaos: Chaos) -> bool:
    """Kill only the command of a sweep; its runs must end with it."""
    options = ["-m", *SMALL, "seed=1,2"]
    _, seconds = chaos.get_reference(options)
    name = chaos.new_name()
    process = chaos.start(["train", *options, f"sweep.name={name}"])
    time.sleep(chaos.random.uniform(1.0, seconds))
    hit, children = process.poll() is None, list_children(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/stat").exists() for pid in children):
        if time.monotonic() > deadline:
            raise Unexpected("processes of the sweep live on after their command was killed")
        time.sleep(0.05)
    chaos.finish(options, name)
    return hit


def kill_one_run_of_a_sweep(chaos: Chaos) -> bool:
    """Kill one child process of a sweep; sweep.retries must repeat its run."""
    options = ["-m", *SMALL, "seed=1,2", "sweep.retries=3"]
    _, seconds = chaos.get_reference(options)
    name = chaos.new_name()
    started = time.monotonic()
    process = chaos.start(["train", *options, f"sweep.name={name}"])
    time.sleep(chaos.random.uniform(0.5 * seconds, seconds))
    children = [pid for pid in list_children(process.pid) if (chaos.folder / "multirun" / name).is_dir()]
    if children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(max(children), signal.SIGKILL)
    check_output(chaos.wait(process, started))
    chaos.finish(options, name)
    return bool(children)


def signal_once(chaos: Chaos) -> bool:
    """Send one signal to a single run."""
    return _signal(chaos, times=1)


def signal_twice(chaos: Chaos) -> bool:
    """Send two signals to a single run, shortly after each other."""
    return _signal(chaos, times=2)


def _signal(chaos: Chaos, times: int) -> bool:
    _, seconds = chaos.get_reference(SMALL)
    name, number = chaos.new_name(), chaos.random.choice(SIGNALS)
    started = time.monotonic()
    process = chaos.start(["train", *SMALL, f"sweep.name={name}"])
    time.sleep(chaos.random.uniform(0.5, seconds))
    hit = process.poll() is None
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        time.sleep(chaos.random.uniform(0.0, 0.3))
    ended = chaos.wait(process, started)
    check_output(ended)
    if ended.status not in (0, 128 + number):
        raise Unexpected(f"{number.name} x {times}: status {ended.status}: {last_line(ended.output)}")
    chaos.finish(SMALL, name)
    return hit and ended.status != 0


def damage_checkpoint(chaos: Chaos) -> bool:
    """Stop a run, damage one of its checkpoints or its history, and repeat the command."""
    return _damage(chaos, ("last.ckpt", "best.ckpt", "previous.ckpt", "history.jsonl", "progress.json"))


def damage_record(chaos: Chaos) -> bool:
    """Stop a run, damage its record, plan or lease; commands must end with a sentence or succeed."""
    return _damage(chaos, ("run.json", "plan.json", "lease.json"))


def _damage(chaos: Chaos, names: Sequence[str]) -> bool:
    _, seconds = chaos.get_reference(SMALL)
    name = chaos.new_name()
    process = chaos.start(["train", *SMALL, f"sweep.name={name}"])
    time.sleep(chaos.random.uniform(0.6 * seconds, seconds))
    kill_group(process)
    process.communicate()
    folder = chaos.folder / "multirun" / name
    files = [path for wanted in names for path in folder.rglob(wanted)]
    if not files:
        return False
    path = chaos.random.choice(files)
    kind = damage(path, chaos.random)
    for command in (["table", name], ["page", f"multirun/{name}"], ["status", f"multirun/{name}"]):
        ended = chaos.run(command)
        check_output(ended)
        if ended.status not in (0, 2):
            raise Unexpected(f"{command[0]} after {kind} of {path.name}: status {ended.status}")
    ended = chaos.run(["train", *SMALL, f"sweep.name={name}"])
    check_output(ended)
    if ended.status == 0:
        expected, _ = chaos.get_reference(SMALL)
        if chaos.read_results(name) != expected:
            raise Unexpected(f"{kind} of {path.name}: other results than without disturbance")
        return True
    if path.name not in ended.output:
        raise Unexpected(f"{kind} of {path.name}: status {ended.status}: {last_line(ended.output)}")
    path.unlink()  # the message names the file; without it the command must succeed
    chaos.finish(SMALL, name)
    return True


def damage(path: Path, generator: random.Random) -> str:
    """Damage a file in a random way, and return the kind of damage."""
    content = bytearray(path.read_bytes())
    kind = generator.choice(["truncation", "flipped bytes", "zeros", "emptying", "noise"])
    if kind == "truncation":
        content = content[: generator.randrange(len(content) + 1)]
    elif kind == "flipped bytes":
        for _ in range(generator.randint(1, 8)):
            if content:
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "zeros":
        start = generator.randrange(len(content) + 1)
        content[start : start + 512] = bytes(len(content[start : start + 512]))
    elif kind == "emptying":
        content = bytearray()
    else:
        content = bytearray(generator.randbytes(len(content)))
    path.write_bytes(content)
    return kind


def limit_file_size(chaos: Chaos) -> bool:
    """Limit the size of files, as a full disk does; without the limit the same command must succeed."""
    chaos.get_reference(SMALL)
    name, size = chaos.new_name(), int(2 ** chaos.random.uniform(8, 21))
    ended = chaos.run(["train", *SMALL, f"sweep.name={name}"], limit_to(resource.RLIMIT_FSIZE, size))
    if ended.status != 0:
        check_output(ended)
    chaos.finish(SMALL, name)
    return ended.status != 0


def run_out_of_memory(chaos: Chaos) -> bool:
    """Limit the memory of a sweep whose update does not fit; sweep.on_oom=halve_batch must find a size that fits."""
    options = ["-m", *SMALL, "trainer.max_steps=2", "data.batch_tokens=100000", "data.train_pairs=9000",
               "trainer.save_every_minutes=5", "sweep.on_oom=halve_batch"]  # fmt: skip
    name = chaos.new_name()
    size = measure_address_space(chaos) + int(chaos.random.uniform(0.3, 0.8) * 2**30)
    ended = chaos.run(["train", *options, f"sweep.name={name}"], limit_to(resource.RLIMIT_AS, size))
    check_output(ended)
    if ended.status != 0:
        raise Unexpected(f"under {size >> 20} MiB: status {ended.status}: {last_line(ended.output)}")
    return "trainer.micro_batch_size=" in ended.output


def measure_address_space(chaos: Chaos) -> int:
    """Return the largest address space, in bytes, of a small run's processes."""
    process = chaos.start(["train", "-m", *SMALL, f"sweep.name={chaos.new_name()}"])
    largest = 0
    while process.poll() is None:
        for pid in list_children(process.pid):
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{pid}/status").read_text()
                largest = max(largest, int(status.split("VmPeak:")[1].split()[0]) * 1024)
        time.sleep(0.05)
    process.communicate()
    return largest


def limit_to(kind: int, size: int) -> Callable[[], None]:
    """Return a function that sets a resource limit in a new process."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(kind, (size, resource.RLIM_INFINITY))

    return limit


def kill_rank(chaos: Chaos) -> bool:
    """Kill one rank of a run with two; the command must end, and the same command must succeed."""
    options = ["-m", *SMALL, "trainer=ddp_cpu"]
    _, seconds = chaos.get_reference(options)
    name, started = chaos.new_name(), time.monotonic()
    process = chaos.start(["train", *options, f"sweep.name={name}"])
    time.sleep(chaos.random.uniform(0.4 * seconds, 0.95 * seconds))
    children = list_children(process.pid)
    if children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chaos.random.choice(sorted(children)[-2:]), signal.SIGKILL)
    ended = chaos.wait(process, started)
    check_output(ended)
    chaos.finish(options, name)
    return ended.status != 0


def compose_random_overrides(chaos: Chaos) -> bool:
    """Compose random overrides: each must be accepted or refused with a list of faults, 200 sets per round."""
    from attnbench.config import ConfigError
    from attnbench.sweeps.plan import compose_run

    keys = [
        "model",
        "model.depth",
        "model.num_heads",
        "model.d_model",
        "attention",
        "attention.score",
        "attention.target",
        "position",
        "position.kind",
        "optim.lr",
        "optim.target",
        "trainer",
        "trainer.devices",
        "trainer.max_steps",
        "data",
        "data.batch_tokens",
        "experiment",
        "task.beam_size",
        "model.norm_type",
        "sweep.name",
        "logger",
        "seed",
        "nonsense",
        "data.source",
    ]
    values = [
        "0",
        "1",
        "-1",
        "2",
        "1e308",
        "nan",
        "null",
        "true",
        "'ab'",
        "[1,2]",
        "{a:1}",
        "rotary",
        "additive",
        "vit_toy",
        "luong",
        "cnn",
        "multi30k",
        "fashion_mnist",
        "transformer_multi30k",
        "batch",
        "../x",
        "ddp",
        "ä",
        "${seed}",
        "[[",
        "a=b",
        "1_000",
        "1e-3",
        "fsdp",
        "~x",
        "math.sqrt",
        "no.such.module",
        "",
    ]
    prefixes = ["", "", "", "+", "~"]
    for _ in range(200):
        chosen = chaos.random.sample(keys, chaos.random.randint(1, 5))
        overrides = [f"{chaos.random.choice(prefixes)}{key}={chaos.random.choice(values)}" for key in chosen]
        try:
            compose_run(overrides)
        except ConfigError:
            continue
        except Exception as error:
            raise Unexpected(f"{overrides}: {type(error).__name__}: {str(error)[:100]}") from error
    return True


CHECKS: dict[str, Callable[[Chaos], bool]] = {
    function.__name__: function
    for function in (
        kill_run, kill_sweep, kill_supervisor, kill_one_run_of_a_sweep, signal_once, signal_twice, damage_checkpoint,
        damage_record, limit_file_size, run_out_of_memory, kill_rank, compose_random_overrides,
    )
}  # fmt: skip


def main() -> int:
    """Run all checks, and print a table of them."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Disturb commands at random and check what they do."
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="tries of each check (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=tuple(CHECKS), help="checks to run (default: all)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="attnbench-chaos-"))
    checks = []
    started = time.monotonic()
    try:
        chaos = Chaos(folder, random.Random(arguments.seed))
        for name in arguments.only or CHECKS:
            check = Check(name)
            checks.append(check)
            for number in range(arguments.rounds):
                chaos.random = random.Random(f"{arguments.seed} {name} {number}")
                check.tried += 1
                try:
                    check.interrupted += CHECKS[name](chaos)
                except Unexpected as error:
                    check.failures.append(f"round {number}: {error}")
                except Exception:
                    check.failures.append(f"round {number}: {traceback.format_exc(limit=1)}")
                print(f"{name}: {check.tried} of {arguments.rounds}, {len(check.failures)} failed", flush=True)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    rows = [[check.name, check.tried, check.interrupted, len(check.failures)] for check in checks]
    print(tabulate(rows, headers=["check", "tried", "hit", "failed"], tablefmt="pipe"))
    for check in checks:
        for failure in check.failures:
            print(f"{check.name}: {failure}")
    print(f"seed {arguments.seed}, {time.monotonic() - started:.0f} s{f', kept in {folder}' if arguments.keep else ''}")
    return int(any(check.failures for check in checks))


if __name__ == "__main__":
    sys.exit(main())
