"""Hydra launchers attnbench, slurm, submitit_local and ray: runs on this machine or on a job queue."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from attnbench.config import ConfigError
from attnbench.sweeps.compose import get_composer
from attnbench.sweeps.display import Outcome, build_run_labels
from attnbench.sweeps.hydra_job import run_hydra_job
from attnbench.sweeps.plan import get_run_folder
from attnbench.sweeps.processes import Job
from attnbench.sweeps.remote import submit_all
from attnbench.sweeps.remote_ray import RayOptions, RayQueue
from attnbench.sweeps.remote_submitit import LocalOptions, SlurmOptions, SubmititQueue
from attnbench.sweeps.supervisor import supervise

# Modules that each run imports before its first step, by name, so that this process does not import them. Without
# attnbench.train, which multiprocessing imports under another name as the main module.
PRELOAD = (
    "attnbench.process.lightning_import",
    "attnbench.reporting.tables",
    "attnbench.training.runner",
    "attnbench.sweeps.preload",
)

_STORE = ConfigStore.instance()
for _name, _node in (
    ("attnbench", {"_target_": "hydra_plugins.attnbench_launcher.AttnbenchLauncher"}),
    ("slurm", SlurmOptions),
    ("submitit_local", LocalOptions),
    ("ray", RayOptions),
):
    _STORE.store(group="hydra/launcher", name=_name, node=_node, provider="attnbench")


class AttnbenchLauncher(Launcher):
    """Launcher that runs a sweep's jobs with `attnbench.sweeps.supervisor` (hydra/launcher=attnbench)."""

    # Set if the sweep is launched in batches: number of all runs, and the overrides that all of them share.
    total: int | None = None
    shared: frozenset[str] = frozenset()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra passes before it launches."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        A failed job is returned as completed with the outcome `failed`: Hydra would end the sweep before later
        batches.
        """
        jobs = [list(overrides) for overrides in job_overrides]
        names = build_run_labels([[override for override in one if override not in self.shared] for one in jobs])
        made = (
            self._build_job(title, overrides, initial_job_idx + index)
            for index, (title, overrides) in enumerate(zip(names, jobs, strict=True))
        )
        outcomes = self.run_jobs(made, self.total or initial_job_idx + len(jobs), initial_job_idx + 1)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, outcome in zip(jobs, outcomes, strict=True)
        ]

    def run_jobs(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Run the jobs and return their outcomes.

        Args:
            jobs: the runs.
            total: number of runs of the command.
            first: number of the first run.
        """
        return supervise(jobs, total, preload=PRELOAD, first=first)

    def _build_job(self, title: str, overrides: list[str], index: int) -> Job:
        """Build a job without its Hydra config, which the job's process composes: finished runs need none."""
        config, composed = get_composer(self.config).compose_job(self.config, overrides, index)
        return Job(
            title=title,
            overrides=overrides,
            config=config,
            folder=get_run_folder(config),
            target=run_hydra_job,
            args=(self.context, self.task_function, composed),
        )


class SubmititLocalLauncher(AttnbenchLauncher):
    """Launcher with submitit's queue on this machine (hydra/launcher=submitit_local)."""

    def __init__(self, **options: Any) -> None:
        self.options = LocalOptions(**options)

    def run_jobs(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Submit the jobs, as many at once as `sweep.workers`."""
        made = [_make_picklable(job) for job in jobs]
        chosen = made[0].config.sweep
        with _report_config_errors():
            queue = SubmititQueue(made[0].folder.parent, chosen.name, self.options, chosen.workers)
        return submit_all(made, total, queue, preload=PRELOAD, first=first)


class SlurmLauncher(AttnbenchLauncher):
    """Launcher for Slurm: one job array, one job for each run (hydra/launcher=slurm)."""

    def __init__(self, **options: Any) -> None:
        self.options = SlurmOptions(**options)

    def run_jobs(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Submit all jobs to Slurm."""
        made = [_limit_to_one_worker(_make_picklable(job)) for job in jobs]
        with _report_config_errors():
            queue = SubmititQueue(made[0].folder.parent, made[0].config.sweep.name, self.options, None)
        return submit_all(made, total, queue, preload=PRELOAD, first=first)


class RayLauncher(AttnbenchLauncher):
    """Launcher for Ray: one task for each run (hydra/launcher=ray)."""

    def __init__(self, **options: Any) -> None:
        self.options = RayOptions(**options)

    def run_jobs(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Submit all jobs to Ray."""
        made = [_limit_to_one_worker(_make_picklable(job)) for job in jobs]
        with _report_config_errors(), contextlib.closing(RayQueue(self.options)) as queue:
            return submit_all(made, total, queue, preload=PRELOAD, first=first)


def _make_picklable(job: Job) -> Job:
    """Return the job with its task function referenced by module and name.

    The reason: `__main__` is another module elsewhere.
    """
    context, function, config = job.args
    spec = sys.modules["__main__"].__spec__
    if function.__module__ == "__main__" and spec is not None:
        function = getattr(importlib.import_module(spec.name), function.__name__)
    return dataclasses.replace(job, args=(context, function, config))


def _limit_to_one_worker(job: Job) -> Job:
    """Return the job with one worker: the queue has assigned its cores."""
    config = dataclasses.replace(job.config, sweep=dataclasses.replace(job.config.sweep, workers=1))
    return dataclasses.replace(job, config=config)


@contextlib.contextmanager
def _report_config_errors() -> Iterator[None]:
    """Print a ConfigError as one line, as `attnbench.train` does, and exit."""
    try:
        yield
    except ConfigError as error:
        for fault in error.faults:
            print(f"attnbench: {fault}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error
