"""Slurm, or this machine in its manner, through submitit: a job of an array each run, requeued when it is preempted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from attnbench.config import ConfigError, Fault
from attnbench.sweeps.processes import serve
from attnbench.sweeps.remote import Errand

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_PREEMPTED = (signal.SIGUSR1, signal.SIGUSR2)  # what queues announce an end with; submitit asks Slurm for the second
_DEVICES = "CUDA_VISIBLE_DEVICES"
_FOLDER = ".submitit"  # in the sweep's: what submitit keeps, and each job's output


@dataclass(frozen=True)
class Preemptible:
    """An errand that, told of its end, has the run write a checkpoint and is put back into the queue."""

    errand: Errand
    environment: Mapping[str, str | None]  # what is to be set there, or unset

    def __call__(self) -> None:
        """Do the errand; submitit's own handler of its signal requeues, once the run has written its checkpoint."""
        for key, value in self.environment.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        asked: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # which the supervisor hands on to the run

        # The fork server, and so each run, inherits the mask and never sees these; nor that Slurm started this
        # process: Lightning would take itself for one of Slurm's ranks, and requeue the job on its own.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _PREEMPTED)
        tasks = os.environ.pop("SLURM_NTASKS", None)
        serve(self.errand.preload)
        if tasks is not None:
            os.environ["SLURM_NTASKS"] = tasks
        handlers = [signal.signal(number, stop) for number in _PREEMPTED]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            self.errand()
        except SystemExit as ended:
            if asked or (ended.code == 128 + signal.SIGTERM and not _is_cancelled()):
                _requeue(handlers)
            raise

    def checkpoint(self) -> DelayedSubmission:
        """What submitit is to start again: the same, which goes on from the run's checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _requeue(handlers: Sequence[Any]) -> None:
    for handler in handlers:
        if callable(handler):
            handler(signal.SIGUSR2, None)


def _is_cancelled() -> bool:
    """Whether SIGTERM came from somebody who wants the job to end, and not from what takes its place for a while."""
    if "SUBMITIT_LOCAL_JOB_ID" in os.environ:
        return _cancelled(Path(os.environ["SUBMITIT_FOLDER"]), os.environ["SUBMITIT_LOCAL_JOB_ID"]).exists()
    # By Slurm's book, a job still runs while it is being preempted, and no longer after scancel.
    asked = ["squeue", "--noheader", "--format=%T", f"--job={os.environ['SLURM_JOB_ID']}"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() != "RUNNING"


def _cancelled(folder: Path, job: str) -> Path:
    """The file that says that a job of this machine is not to be started again."""
    return folder / f"{job}_cancelled"


@dataclass
class SlurmOptions:
    """`hydra.launcher` of hydra/launcher=slurm: what sbatch is told of each job, under submitit's names."""

    _target_: str = "hydra_plugins.attnbench_launcher.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    gres: str | None = None
    timeout_min: int = 240  # a job that comes to this end goes on in the next
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    array_parallelism: int = 16  # runs at once
    signal_delay_s: int = 120  # seconds before the end at which a run is told, to write its checkpoint
    max_num_timeout: int = 100  # ends by timeout_min that a run may come to
    setup: list[str] | None = None  # lines of shell before each job, such as "module load cuda"
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # whatever else sbatch takes


@dataclass
class LocalOptions:
    """`hydra.launcher` of hydra/launcher=submitit_local: Slurm's manners on this machine, sweep.workers at once."""

    _target_: str = "hydra_plugins.attnbench_launcher.SubmititLocalLauncher"
    timeout_min: int = 7 * 24 * 60
    signal_delay_s: int = 120
    max_num_timeout: int = 100


@dataclass(frozen=True)
class SubmititHandle:
    """A job of submitit's."""

    job: Any
    name: str

    @property
    def log(self) -> str:
        """Where its output is."""
        return str(self.job.paths.stdout)

    def ended(self) -> str | None:
        """How it ended, if it has."""
        return str(self.job.state).lower() if self.job.done() else None


class SubmititQueue:
    """submitit's executor."""

    def __init__(self, folder: Path, name: str, options: SlurmOptions | LocalOptions, at_once: int | None) -> None:
        """A queue for the sweep `name` in `folder`.

        Args:
            folder: the sweep's.
            name: the sweep's.
            options: what `hydra.launcher` says.
            at_once: how many jobs are handed over at once; None: all.

        Raises:
            ConfigError: submitit is not installed, or there is no Slurm here.
        """
        self._slurm = isinstance(options, SlurmOptions)
        given = "slurm" if self._slurm else "submitit_local"
        try:
            import submitit
        except ImportError as error:
            expected = "submitit is not installed: pip install attnbench[slurm]"
            raise ConfigError([Fault("hydra/launcher", given, expected)]) from error
        if self._slurm and shutil.which("sbatch") is None:
            expected = "no sbatch here: start from a login node, or take submitit_local, or attnbench (the default)"
            raise ConfigError([Fault("hydra/launcher", given, expected)])
        self.at_once, self.patience = at_once, 2.0 if self._slurm else 0.25
        self._folder = (folder / _FOLDER).resolve()
        executor = submitit.SlurmExecutor if self._slurm else submitit.LocalExecutor
        self._executor: Any = executor(self._folder, max_num_timeout=options.max_num_timeout)
        self._executor.update_parameters(**self._executor._convert_parameters(_parameters(options, name)))

    def submit(self, errands: Sequence[Errand]) -> list[SubmititHandle]:
        """Hand them over: on Slurm as one array."""
        # On this machine submitit takes the devices away from who asks for none.
        environment = {} if self._slurm else {_DEVICES: os.environ.get(_DEVICES)}
        # What it starts inherits the mask, and so is out of reach of the terminal's Ctrl-C: see `leave`.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            jobs = self._executor.submit_array([Preemptible(errand, environment) for errand in errands])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return [self._handle(job) for job in jobs]

    def find(self, name: str) -> SubmititHandle | None:
        """An earlier command's job on Slurm; on this machine, a run's lease tells as much."""
        if not self._slurm:
            return None
        from submitit import SlurmJob

        job: Any = SlurmJob(self._folder, name.rpartition(" ")[2])
        return self._handle(job) if job.get_info(mode="force").get("State") and not job.done() else None

    def leave(self, handles: Sequence[SubmititHandle]) -> str:
        """Slurm's jobs go on; this machine's are told to stop, as runs are by who supervises them here."""
        if self._slurm:
            names = " ".join(sorted({handle.job.job_id.partition("_")[0] for handle in handles}))
            return f"; what is submitted goes on (scancel {names} ends it)" if handles else ""
        for handle in handles:
            _cancelled(self._folder, handle.job.job_id).touch()
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(handle.job.job_id), signal.SIGTERM)
        while any(handle.ended() is None for handle in handles):
            time.sleep(self.patience)
        return ""

    def _handle(self, job: Any) -> SubmititHandle:
        return SubmititHandle(job, f"{'Slurm job' if self._slurm else 'process'} {job.job_id}")


def _parameters(options: SlurmOptions | LocalOptions, name: str) -> dict[str, Any]:
    """What submitit's executor is told, by the names that are the same for all of its executors."""
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    del given["_target_"], given["max_num_timeout"]
    given = {key: value for key, value in given.items() if value not in (None, {})}
    return given | {"stderr_to_stdout": True} | ({"name": name} if isinstance(options, SlurmOptions) else {})
