"""Job queue of submitit: Slurm job arrays, or processes on this machine; preempted jobs are requeued."""

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
from attnbench.sweeps.processes import start_fork_server
from attnbench.sweeps.remote import RemoteJob

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_PREEMPTED = (
    signal.SIGUSR1,
    signal.SIGUSR2,
)  # signals that queues send before they end a job; submitit configures Slurm to send the second one
_DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
_FOLDER_NAME = ".submitit"  # in the sweep's folder: submitit's files and the output of each job


@dataclass(frozen=True)
class PreemptibleJob:
    """Job that, when Slurm announces its end, writes a checkpoint and is requeued."""

    job: RemoteJob
    environment: Mapping[str, str | None]  # variables to set, or to unset (None)

    def __call__(self) -> None:
        """Run the job; submitit's signal handler requeues it after the checkpoint is written."""
        for key, value in self.environment.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        received: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            received.append(number)
            os.kill(os.getpid(), signal.SIGTERM)  # the supervisor passes it on to the run

        # The fork server and all runs inherit the mask and never get these signals. They also do not see SLURM_NTASKS:
        # Lightning would assume that it is one of Slurm's ranks, and requeue the job itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _PREEMPTED)
        tasks = os.environ.pop("SLURM_NTASKS", None)
        start_fork_server(self.job.preload)
        if tasks is not None:
            os.environ["SLURM_NTASKS"] = tasks
        handlers = [signal.signal(number, stop) for number in _PREEMPTED]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            self.job()
        except SystemExit as ended:
            if received or (ended.code == 128 + signal.SIGTERM and not _is_cancelled()):
                _call_requeue_handlers(handlers)
            raise

    def checkpoint(self) -> DelayedSubmission:
        """Return the job that submitit starts again; it resumes from the run's checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _call_requeue_handlers(handlers: Sequence[Any]) -> None:
    for handler in handlers:
        if callable(handler):
            handler(signal.SIGUSR2, None)


def _is_cancelled() -> bool:
    """Return True if SIGTERM comes from a user who cancels the job, and not from a preemption."""
    if "SUBMITIT_LOCAL_JOB_ID" in os.environ:
        return _get_cancel_file(Path(os.environ["SUBMITIT_FOLDER"]), os.environ["SUBMITIT_LOCAL_JOB_ID"]).exists()
    # In Slurm a job has the state RUNNING during preemption, and another state after scancel.
    command = ["squeue", "--noheader", "--format=%T", f"--job={os.environ['SLURM_JOB_ID']}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() != "RUNNING"


def _get_cancel_file(folder: Path, job: str) -> Path:
    """Return the path of the file that marks a local job as not to be restarted."""
    return folder / f"{job}_cancelled"


@dataclass
class SlurmOptions:
    """`hydra.launcher` of hydra/launcher=slurm: sbatch options of each job, with submitit's names."""

    _target_: str = "hydra_plugins.attnbench_launcher.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    gres: str | None = None
    timeout_min: int = 240  # a job that reaches this limit is continued in the next one
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    array_parallelism: int = 16  # runs at once
    signal_delay_s: int = 120  # a run is signalled this many seconds before the end, to write its checkpoint
    max_num_timeout: int = 100  # largest number of ends by timeout_min
    setup: list[str] | None = None  # lines of shell before each job, such as "module load cuda"
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # other options of sbatch


@dataclass
class LocalOptions:
    """`hydra.launcher` of hydra/launcher=submitit_local: submitit jobs on this machine, sweep.workers at once."""

    _target_: str = "hydra_plugins.attnbench_launcher.SubmititLocalLauncher"
    timeout_min: int = 7 * 24 * 60
    signal_delay_s: int = 120
    max_num_timeout: int = 100


@dataclass(frozen=True)
class SubmititHandle:
    """A submitit job."""

    job: Any
    name: str

    @property
    def log(self) -> str:
        """Path of the job's output."""
        return str(self.job.paths.stdout)

    def describe_end(self) -> str | None:
        """Return how the job ended; None while it waits or runs."""
        return str(self.job.state).lower() if self.job.done() else None


class SubmititQueue:
    """submitit executor as a job queue."""

    def __init__(self, folder: Path, name: str, options: SlurmOptions | LocalOptions, max_parallel: int | None) -> None:
        """Create a queue for a sweep.

        Args:
            folder: folder of the sweep.
            name: name of the sweep.
            options: `hydra.launcher`.
            max_parallel: number of jobs to submit at once; None: all.

        Raises:
            ConfigError: if submitit is not installed, or Slurm is missing.
        """
        self._slurm = isinstance(options, SlurmOptions)
        given = "slurm" if self._slurm else "submitit_local"
        try:
            import submitit
        except ImportError as error:
            expected = "submitit is not installed: pip install attnbench[slurm]"
            raise ConfigError([Fault("hydra/launcher", given, expected)]) from error
        if self._slurm and shutil.which("sbatch") is None:
            expected = "sbatch was not found: start this on a login node of Slurm, or use hydra/launcher=submitit_local"
            raise ConfigError([Fault("hydra/launcher", given, expected)])
        self.max_parallel, self.poll_seconds = max_parallel, 2.0 if self._slurm else 0.25
        self._folder = (folder / _FOLDER_NAME).resolve()
        executor = submitit.SlurmExecutor if self._slurm else submitit.LocalExecutor
        self._executor: Any = executor(self._folder, max_num_timeout=options.max_num_timeout)
        self._executor.update_parameters(**self._executor._convert_parameters(_build_parameters(options, name)))

    def submit(self, jobs: Sequence[RemoteJob]) -> list[SubmititHandle]:
        """Submit jobs; on Slurm as one job array."""
        # On this machine submitit hides all devices from jobs that request none.
        environment = {} if self._slurm else {_DEVICES_VARIABLE: os.environ.get(_DEVICES_VARIABLE)}
        # Jobs inherit the mask, so that the terminal's Ctrl-C does not reach them; see `stop_waiting`.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            submitted = self._executor.submit_array([PreemptibleJob(job, environment) for job in jobs])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return [self._build_handle(job) for job in submitted]

    def find(self, name: str) -> SubmititHandle | None:
        """Return an earlier command's job on Slurm; None for local jobs, whose leases tell the same."""
        if not self._slurm:
            return None
        from submitit import SlurmJob

        job: Any = SlurmJob(self._folder, name.rpartition(" ")[2])
        return self._build_handle(job) if job.get_info(mode="force").get("State") and not job.done() else None

    def stop_waiting(self, handles: Sequence[SubmititHandle]) -> str:
        """Let Slurm jobs continue; stop local jobs as `supervise` stops runs."""
        if self._slurm:
            names = " ".join(sorted({handle.job.job_id.partition("_")[0] for handle in handles}))
            return f"; submitted jobs keep running (scancel {names} ends it)" if handles else ""
        for handle in handles:
            _get_cancel_file(self._folder, handle.job.job_id).touch()
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(handle.job.job_id), signal.SIGTERM)
        while any(handle.describe_end() is None for handle in handles):
            time.sleep(self.poll_seconds)
        return ""

    def _build_handle(self, job: Any) -> SubmititHandle:
        return SubmititHandle(job, f"{'Slurm job' if self._slurm else 'process'} {job.job_id}")


def _build_parameters(options: SlurmOptions | LocalOptions, name: str) -> dict[str, Any]:
    """Build submitit's parameters, with the names that are common to all executors."""
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    del given["_target_"], given["max_num_timeout"]
    given = {key: value for key, value in given.items() if value not in (None, {})}
    return given | {"stderr_to_stdout": True} | ({"name": name} if isinstance(options, SlurmOptions) else {})
