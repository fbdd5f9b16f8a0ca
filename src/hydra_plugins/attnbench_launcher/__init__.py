"""hydra/launcher=attnbench: a process a run, what is finished skipped, a failure no reason to stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from attnbench.config import check
from attnbench.sweep.children import Job
from attnbench.sweep.compose import without_hydra
from attnbench.sweep.hydra_job import run_hydra_job
from attnbench.sweep.supervise import supervise
from attnbench.sweep.telling import titles

# What every run imports before its first step, by name: nothing of it is wanted in this process. Without
# attnbench.train, which a new process runs under another name, as multiprocessing does with a main module.
PRELOAD = ("attnbench.report.tables", "attnbench.tasks.run", "attnbench.sweep.warm")

ConfigStore.instance().store(
    group="hydra/launcher",
    name="attnbench",
    node={"_target_": "hydra_plugins.attnbench_launcher.AttnbenchLauncher"},
    provider="attnbench",
)


class AttnbenchLauncher(Launcher):
    """Hands a sweep's jobs to `attnbench.sweep.supervise`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra says before it launches."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs.

        A failed job is returned as completed with the outcome `failed`: a failure that Hydra sees ends the
        sweep before its later batches.
        """
        jobs = [list(overrides) for overrides in job_overrides]
        outcomes = supervise(
            (
                self._job(title, overrides, initial_job_idx + index)
                for index, (title, overrides) in enumerate(zip(titles(jobs), jobs, strict=True))
            ),
            initial_job_idx + len(jobs),
            preload=PRELOAD,
            first=initial_job_idx + 1,
        )
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, outcome in zip(jobs, outcomes, strict=True)
        ]

    def _job(self, title: str, overrides: list[str], index: int) -> Job:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = index
        return Job(
            title=title,
            overrides=overrides,
            config=check(without_hydra(config)),
            folder=Path(config.hydra.sweep.dir, config.hydra.sweep.subdir),
            target=run_hydra_job,
            args=(self.context, self.task_function, config),
        )
