"""Runs that take no time, for the supervisor's tests; as a script, a supervisor that a test may kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from attnbench.config import Config, validate_config
from attnbench.data.errors import DataError
from attnbench.records.lifecycle import build_exception_error, create_record, load_previous_record, write_final_status
from attnbench.records.ranks import get_rank, get_rank_context
from attnbench.records.record import Status, write_record
from attnbench.sweeps.plan import compose_run
from attnbench.sweeps.processes import Job
from attnbench.sweeps.supervisor import supervise


def finish(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    record = create_record(config, list(added), load_previous_record(folder))
    record.status = Status.finished
    write_record(record, folder)


def fail(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """As attnbench.training.runner does: recorded, then raised."""
    record = create_record(config, [], load_previous_record(folder))
    write_final_status(record, folder, Status.failed, {"type": "RuntimeError", "message": "boom", "traceback": "there"})
    raise RuntimeError("boom")


def fail_early(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    raise ImportError("no module named torch")


def fail_at_length(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    raise ValueError("x" * 1_000_000)


def killed(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    write_record(create_record(config, [], load_previous_record(folder)), folder)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    os._exit(3)


def wait(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """Say who this is, and wait for a signal; what it was becomes the record."""
    record = create_record(config, [])
    write_record(record, folder)
    try:
        print(f"ready {os.getpid()}", flush=True)
        signal.pause()
    except BaseException as error:
        write_final_status(
            record,
            folder,
            Status.interrupted,
            build_exception_error(error, folder),
        )
        raise


def stopped_while_starting(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that gets a signal before it has a record, as while modules are imported."""
    os.kill(os.getpid(), getattr(signal, os.environ.get("FAKE_SIGNAL", "SIGTERM")))


def stopped_twice(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that gets a second signal while it writes down that it got one."""
    record = create_record(config, [])
    write_record(record, folder)
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        write_final_status(record, folder, Status.interrupted, build_exception_error(error, folder))
        raise


def swallowed(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run during which a library makes another error of a signal."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        raise ImportError("libsomething failed to load") from None


def deaf(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that does not stop when asked."""
    write_record(create_record(config, []), folder)
    # os.write: a second signal may arrive inside the first handler, and print raises an error when it is entered again.
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"no\n"))
    print(f"ready {os.getpid()}", flush=True)
    while True:
        signal.pause()


def killed_once(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that another attempt mends."""
    record = create_record(config, [], load_previous_record(folder))
    write_record(record, folder)
    if record.attempts == 1:
        print("so far so good", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    record.status = Status.finished
    write_record(record, folder)


def diverge(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    class TrainingError(Exception):
        """As attnbench.tasks.base has it; recognized by name."""

    raise TrainingError("the loss is nan at update 7")


def refuse(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    raise DataError("train.en:3: an empty line")


def hungry(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that needs more memory than there is, unless an update comes in parts of at most 1000."""
    if not any(int(item.partition("=")[2]) <= 1000 for item in added if item.startswith("trainer.micro_batch_size=")):
        write_record(create_record(config, [*added], load_previous_record(folder)), folder)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    finish(config, folder, added)


def hold(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that goes on until somebody opens its pipe."""
    print(f"ready {os.getpid()}", flush=True)
    with (folder.parent / "pipe").open("rb"):
        finish_once(config, folder)


def meet(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that ends only beside another one: each end of a pipe waits for the other to be opened."""
    with (folder.parent / "pipe").open("rb" if config.seed == 0 else "wb"):
        finish(config, folder, added)


def finish_once(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that nobody may run again."""
    (folder / "done").touch(exist_ok=False)
    finish(config, folder)


def meet_ranks(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """Ranks that agree on a port, and write down which they are."""
    place = get_rank_context()
    assert place is not None
    port = place.share_port(4711 if get_rank() == 0 else None)
    (folder / f"rank{get_rank()}").write_text(f"{place.rank} of {place.world_size}, {port}")
    if get_rank() == 0:
        finish(config, folder)


def _drawn_along(config: Config, folder: Path, fate: Callable[[], None]) -> None:
    """Rank 1 meets its fate; rank 0 records what its library says once the other is gone."""
    place = get_rank_context()
    assert place is not None
    if get_rank() == 1:
        fate()
    record = create_record(config, [])
    write_record(record, folder)
    try:
        place.pipes[0].send("a" * 10_000_000)
    except OSError as error:
        gone = RuntimeError("Connection closed by peer [127.0.0.1]:1234")
        write_final_status(record, folder, Status.failed, build_exception_error(gone, folder))
        raise gone from error


def second_raises(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    _drawn_along(config, folder, lambda: fail_at_once(ValueError("boom")))


def second_killed(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    _drawn_along(config, folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def second_stopped(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    _drawn_along(config, folder, lambda: os.kill(os.getpid(), signal.SIGTERM))


def second_diverges(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    _drawn_along(config, folder, lambda: diverge(config, folder))


def first_waits_forever(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    if get_rank() == 1:
        fail_at_once(ValueError("boom"))
    write_record(create_record(config, []), folder)
    while True:
        signal.pause()


def second_stops(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """Rank 1 is stopped as a debugger stops a process, and rank 0 waits for it."""
    place = get_rank_context()
    assert place is not None
    if get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    write_record(create_record(config, []), folder)
    place.pipes[0].send("a" * 10_000_000)


def fail_at_once(error: Exception) -> None:
    raise error


def hydra_run(cfg: DictConfig) -> None:
    """In the place of attnbench.train.run: for as long as there is a file named so, `<seed>.<name>` is a run's fate."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    config = validate_config(cfg)
    fate = next((path.suffix[1:] for path in Path().glob(f"{config.seed}.*")), "finish")
    globals()[fate](config, folder)


def jobs(folder: Path, *runs: Callable[..., None], **sweep: Any) -> list[Job]:
    config = compose_run([])
    config.sweep = dataclasses.replace(config.sweep, **sweep)
    configs = [dataclasses.replace(config, seed=n) for n in range(len(runs))]
    return [
        Job(f"seed={n}", [f"seed={n}"], configs[n], folder / str(n), run, (configs[n], folder / str(n)))
        for n, run in enumerate(runs)
    ]


if __name__ == "__main__":
    import sweep_fakes  # not __main__: a process of its own must find these functions

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored, as nohup does
    where, workers, *names = sys.argv[1:]
    supervise(
        jobs(Path(where), *(getattr(sweep_fakes, name) for name in names), workers=int(workers)),
        len(names),
    )
