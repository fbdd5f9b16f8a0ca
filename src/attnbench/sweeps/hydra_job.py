"""A Hydra job in a process of its own: what a launcher hands over, and what is done with it there."""

from __future__ import annotations

from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from attnbench.records.ranks import get_rank
from attnbench.sweeps.compose import JobConfig, register


def place(config: DictConfig, added: list[str]) -> None:
    """Set what a supervisor adds to a run's own overrides: whole numbers, all."""
    for override in added:
        key, _, value = override.partition("=")
        OmegaConf.update(config, key, int(value))


def run_hydra_job(context: HydraContext, task_function: TaskFunction, job: JobConfig, added: list[str]) -> None:
    """Call the task function as Hydra does (its folder, `.hydra`, logging), and raise what it raises.

    Args:
        context: of the command that the job is one of.
        task_function: what Hydra calls with the job's config.
        job: builds the config.
        added: overrides of the run's placement, which do not change its folder.
    """
    register()  # a new process knows neither schema nor resolvers
    config = job.build()
    place(config, added)
    with open_dict(config):
        config.hydra.overrides.task.extend(added)
        if get_rank() > 0:  # what Hydra says of a run, the first rank does
            config.hydra.output_subdir = None
    returned = run_job(
        hydra_context=context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if returned.status is JobStatus.FAILED:
        raise returned._return_value  # the public property also prints
