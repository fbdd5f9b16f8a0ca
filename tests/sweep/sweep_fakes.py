"""Runs that take no time, for the supervisor's tests; as a script, a supervisor that a test may kill."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from attnbench.config import Config, check
from attnbench.record import Status, write
from attnbench.sweep.plan import compose
from attnbench.sweep.records import close, new_record
from attnbench.sweep.supervise import Job, supervise


def finish(config: Config, folder: Path) -> None:
    record = new_record(config, [])
    record.status = Status.finished
    write(record, folder)


def fail(config: Config, folder: Path) -> None:
    """As attnbench.tasks.run does: recorded, then raised."""
    record = new_record(config, [])
    close(record, folder, Status.failed, {"type": "RuntimeError", "message": "boom", "traceback": "there"})
    raise RuntimeError("boom")


def fail_early(config: Config, folder: Path) -> None:
    raise ImportError("no module named torch")


def fail_at_length(config: Config, folder: Path) -> None:
    raise ValueError("x" * 1_000_000)


def killed(config: Config, folder: Path) -> None:
    write(new_record(config, []), folder)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(config: Config, folder: Path) -> None:
    os._exit(3)


def wait(config: Config, folder: Path) -> None:
    """Say who this is, and wait for a signal; what it was becomes the record."""
    record = new_record(config, [])
    write(record, folder)
    try:
        print(f"ready {os.getpid()}", flush=True)
        signal.pause()
    except BaseException as error:
        close(
            record,
            folder,
            Status.interrupted,
            {"type": type(error).__name__, "message": "asked", "traceback": ""},
        )
        raise


def deaf(config: Config, folder: Path) -> None:
    """A run that does not stop when asked."""
    write(new_record(config, []), folder)
    signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
    print(f"ready {os.getpid()}", flush=True)
    while True:
        signal.pause()


def hydra_run(cfg: DictConfig) -> None:
    """In the place of attnbench.train.run: seed 2 fails for as long as a file says so."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    config = check(cfg)
    if config.seed == 2 and Path("fail").exists():
        fail(config, folder)
    finish(config, folder)


def jobs(folder: Path, *runs: Callable[[Config, Path], None]) -> list[Job]:
    config = compose([])
    return [
        Job(f"seed={n}", [f"seed={n}"], config, folder / str(n), run, (config, folder / str(n)))
        for n, run in enumerate(runs)
    ]


if __name__ == "__main__":
    import sweep_fakes  # not __main__: a process of its own must find these functions

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored, as nohup does
    where, names = Path(sys.argv[1]), sys.argv[2:]
    supervise(jobs(where, *(getattr(sweep_fakes, name) for name in names)), len(names))
