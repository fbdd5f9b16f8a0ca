"""hydra/launcher=attnbench, slurm, submitit_local, ray: one way to do a run, here or handed elsewhere."""

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
from attnbench.sweeps.compose import composer_of
from attnbench.sweeps.display import Outcome, titles
from attnbench.sweeps.hydra_job import run_hydra_job
from attnbench.sweeps.plan import run_folder
from attnbench.sweeps.processes import Job
from attnbench.sweeps.remote import hand_over
from attnbench.sweeps.remote_ray import RayOptions, RayQueue
from attnbench.sweeps.remote_submitit import LocalOptions, SlurmOptions, SubmititQueue
from attnbench.sweeps.supervisor import supervise

# What every run imports before its first step, by name: nothing of it is wanted in this process. Without
# attnbench.train, which a new process runs under another name, as multiprocessing does with a main module.
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
    """hydra/launcher=attnbench hands a sweep's jobs to `attnbench.sweeps.supervisor`."""

    # Of the whole sweep, where whoever launches it in batches knows: how many runs, and what all of them share.
    total: int | None = None
    shared: frozenset[str] = frozenset()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra says before it launches."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        A failed job is returned as completed with the outcome `failed`: a failure that Hydra sees ends the
        sweep before its later batches.
        """
        jobs = [list(overrides) for overrides in job_overrides]
        names = titles([[override for override in one if override not in self.shared] for one in jobs])
        made = (
            self._job(title, overrides, initial_job_idx + index)
            for index, (title, overrides) in enumerate(zip(names, jobs, strict=True))
        )
        outcomes = self.do(made, self.total or initial_job_idx + len(jobs), initial_job_idx + 1)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, outcome in zip(jobs, outcomes, strict=True)
        ]

    def do(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Have the jobs done, the first of them number `first` of `total`."""
        return supervise(jobs, total, preload=PRELOAD, first=first)

    def _job(self, title: str, overrides: list[str], index: int) -> Job:
        """Build a job without its Hydra config, which its own process makes: a finished run needs none."""
        config, composed = composer_of(self.config).job(self.config, overrides, index)
        return Job(
            title=title,
            overrides=overrides,
            config=config,
            folder=run_folder(config),
            target=run_hydra_job,
            args=(self.context, self.task_function, composed),
        )


class SubmititLocalLauncher(AttnbenchLauncher):
    """hydra/launcher=submitit_local: as on Slurm, on this machine."""

    def __init__(self, **options: Any) -> None:
        self.options = LocalOptions(**options)

    def do(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Hand the jobs to submitit, as many at once as workers are wanted."""
        made = [_packed(job) for job in jobs]
        chosen = made[0].config.sweep
        with _refusing():
            queue = SubmititQueue(made[0].folder.parent, chosen.name, self.options, chosen.workers)
        return hand_over(made, total, queue, preload=PRELOAD, first=first)


class SlurmLauncher(AttnbenchLauncher):
    """hydra/launcher=slurm: a job of an array each run."""

    def __init__(self, **options: Any) -> None:
        self.options = SlurmOptions(**options)

    def do(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Hand all jobs to Slurm."""
        made = [_alone(_packed(job)) for job in jobs]
        with _refusing():
            queue = SubmititQueue(made[0].folder.parent, made[0].config.sweep.name, self.options, None)
        return hand_over(made, total, queue, preload=PRELOAD, first=first)


class RayLauncher(AttnbenchLauncher):
    """hydra/launcher=ray: a task each run."""

    def __init__(self, **options: Any) -> None:
        self.options = RayOptions(**options)

    def do(self, jobs: Iterator[Job], total: int, first: int) -> list[Outcome]:
        """Hand all jobs to Ray."""
        made = [_alone(_packed(job)) for job in jobs]
        with _refusing(), contextlib.closing(RayQueue(self.options)) as queue:
            return hand_over(made, total, queue, preload=PRELOAD, first=first)


def _packed(job: Job) -> Job:
    """The job with its task function by the name under which another process finds it: `__main__` is another there."""
    context, function, config = job.args
    spec = sys.modules["__main__"].__spec__
    if function.__module__ == "__main__" and spec is not None:
        function = getattr(importlib.import_module(spec.name), function.__name__)
    return dataclasses.replace(job, args=(context, function, config))


def _alone(job: Job) -> Job:
    """The job with no other beside it: the queue has given it the cores that it may use."""
    config = dataclasses.replace(job.config, sweep=dataclasses.replace(job.config.sweep, workers=1))
    return dataclasses.replace(job, config=config)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What is not there, or not installed, is said in a line, as `attnbench.train` says it."""
    try:
        yield
    except ConfigError as error:
        for fault in error.faults:
            print(f"attnbench: {fault}", file=sys.stderr, flush=True)
        raise SystemExit(2) from error
