"""Job queue of Ray: one task for each run, on an existing cluster or one started on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.config import ConfigError, Fault
from attnbench.sweeps.remote import RemoteJob


@dataclass
class RayOptions:
    """`hydra.launcher` of hydra/launcher=ray."""

    _target_: str = "hydra_plugins.attnbench_launcher.RayLauncher"
    address: str | None = None  # address of a cluster, or auto for that of this machine; null: start one
    num_cpus: float = 1  # per run; Ray limits the number of parallel runs by it
    num_gpus: float = 0  # per run; 0.5 lets two runs share a GPU
    total_cpus: int | None = None  # of a cluster that is started here; null: all of this machine
    total_gpus: int | None = None


@dataclass(frozen=True)
class RayHandle:
    """A Ray task."""

    reference: Any
    name: str
    log: str = "the output of Ray's workers"

    def describe_end(self) -> str | None:
        """Return how the task ended; None while it runs."""
        import ray

        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        try:
            ray.get(self.reference)
        except Exception as error:  # errors of the run are in its record; this is an error of Ray or the worker
            return str(error).strip().partition("\n")[0] or type(error).__name__
        return "completed"


class RayQueue:
    """Ray cluster as a job queue."""

    max_parallel: int | None = None
    poll_seconds = 0.25

    def __init__(self, options: RayOptions) -> None:
        """Join the cluster, or start one.

        Raises:
            ConfigError: if Ray is not installed, or the cluster does not exist.
        """
        # Otherwise Ray hides devices from tasks that request none, and overrides a run's own choice.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
        try:
            import ray
        except ImportError as error:
            expected = "Ray is not installed: pip install attnbench[ray]"
            raise ConfigError([Fault("hydra/launcher", "ray", expected)]) from error
        own = {"num_cpus": options.total_cpus, "num_gpus": options.total_gpus, "include_dashboard": False}
        given: dict[str, Any] = own if options.address is None else {}
        try:
            ray.init(address=options.address or "local", log_to_driver=False, logging_level=logging.ERROR, **given)
        except ConnectionError as error:
            expected = "no Ray cluster found at this address"
            raise ConfigError([Fault("hydra.launcher.address", str(options.address), expected)]) from error
        # The supervisor retries. Each worker runs one task, so that nothing remains of earlier runs.
        remote: Any = ray.remote(max_retries=0, max_calls=1, num_cpus=options.num_cpus, num_gpus=options.num_gpus)
        self._call = remote(_run_job)

    def submit(self, jobs: Sequence[RemoteJob]) -> list[RayHandle]:
        """Submit jobs."""
        references = [self._call.remote(job, os.getcwd()) for job in jobs]
        return [RayHandle(reference, f"Ray task {reference.hex()[:12]}") for reference in references]

    def find(self, name: str) -> RayHandle | None:
        """Return None: Ray ends tasks together with the command that started them."""
        return None

    def stop_waiting(self, handles: Sequence[RayHandle]) -> str:
        """Stop each run as Ctrl-C does, and wait for it."""
        import ray

        for handle in handles:
            ray.cancel(handle.reference)
        ray.wait([handle.reference for handle in handles], num_returns=len(handles), timeout=60)
        return ""

    def close(self) -> None:
        """Disconnect from the cluster; a cluster that was started here ends."""
        import ray

        ray.shutdown()


def _run_job(job: RemoteJob, folder: str) -> None:
    """Run a job in a Ray worker, in the folder of the submitting command."""
    os.chdir(folder)
    with contextlib.suppress(SystemExit):  # the run was stopped and has a record; Ray would report a crash
        job()
