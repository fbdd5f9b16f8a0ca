"""Runs a Hydra job in its own process."""

from __future__ import annotations

from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from attnbench.records.ranks import get_rank
from attnbench.sweeps.compose import JobConfig, register_schema


def apply_placement(config: DictConfig, added: list[str]) -> None:
    """Set the placement overrides that a supervisor adds to a run (all whole numbers)."""
    for override in added:
        key, _, value = override.partition("=")
        OmegaConf.update(config, key, int(value))


def run_hydra_job(context: HydraContext, task_function: TaskFunction, job: JobConfig, added: list[str]) -> None:
    """Call the task function as Hydra does (folder, `.hydra`, logging), and raise what it raises.

    Args:
        context: Hydra context of the command.
        task_function: function that Hydra calls with the job's config.
        job: builds the config.
        added: placement overrides, which do not change the run's folder.
    """
    register_schema()  # a new process has neither schema nor resolvers
    config = job.build_config()
    apply_placement(config, added)
    with open_dict(config):
        config.hydra.overrides.task.extend(added)
        if get_rank() > 0:  # only the first rank writes Hydra's log
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
