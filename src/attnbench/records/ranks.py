"""Ranks of a run: one process each, started by the supervisor, which also passes on the port of rank 0."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from attnbench.config import Fault

# Environment variables of ranks: those of torch and Lightning, Slurm and LSF.
_RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "JSM_NAMESPACE_RANK"),
)


@dataclass(frozen=True)
class RankContext:
    """Position of this process among the ranks of its run, all on one machine."""

    rank: int
    world_size: int
    pipes: Sequence[Connection]  # on rank 0 one pipe to each other rank; on others one pipe from rank 0

    def share_port(self, port: int | None) -> int:
        """Send the port that rank 0 listens on to all ranks.

        Args:
            port: the port on rank 0; None on other ranks.

        Raises:
            EOFError: rank 0 ended before it had a port.
        """
        if port is None:
            port = int(self.pipes[0].recv())
        elif self.rank == 0:
            for pipe in self.pipes:
                pipe.send(port)
        for pipe in self.pipes:
            pipe.close()
        return port


_rank_context: RankContext | None = None


def set_rank_context(context: RankContext) -> None:
    """Set the rank context of this process."""
    global _rank_context
    _rank_context = context
    # With these variables Lightning starts no processes itself.
    os.environ |= {"RANK": str(context.rank), "LOCAL_RANK": str(context.rank), "WORLD_SIZE": str(context.world_size)}


def get_rank_context() -> RankContext | None:
    """Return the rank context; None for a single process, or if another launcher (torchrun) started the ranks."""
    return _rank_context


def get_rank() -> int:
    """Return the rank of this process; 0 for a single process, even if RANK is set."""
    return _read_variable("RANK", 0) if get_world_size() > 1 else 0


def get_world_size() -> int:
    """Return how many ranks were started already, over all nodes: this process is one of them."""
    return max(1, _read_variable("WORLD_SIZE", 1))


def is_rank_unknown() -> bool:
    """Return True if the environment has a world size above 1 but no rank of this process."""
    return get_world_size() > 1 and (_read_variable("RANK", -1) < 0 or _read_variable("LOCAL_RANK", -1) < 0)


def remove_stray_variables() -> None:
    """Take out of the environment what says that this process is one of several ranks, where it is not.

    A shell in an allocation of Slurm, or one that exports RANK, has such variables; Lightning would believe them.
    """
    if get_world_size() == 1:
        for name in _RANK_VARIABLES:
            os.environ.pop(name, None)


def _read_variable(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def check_rank_count(devices: int, num_nodes: int, *, is_multirun: bool = False) -> Fault | None:
    """Check that a run can have the ranks that it asks for; the ranks of one node are started if there are none.

    Args:
        devices: `trainer.devices`.
        num_nodes: `trainer.num_nodes`.
        is_multirun: whether the run belongs to a multirun.

    Returns:
        A sentence about the fault; None if there is none.
    """
    wanted, there = devices * num_nodes, get_world_size()
    if there > 1 and is_multirun:
        return Fault("trainer.devices", f"{devices}", "-m starts ranks itself: leave torchrun out")
    if there > 1 and there != wanted:
        nodes = f" on {num_nodes} nodes" if num_nodes > 1 else ""
        return Fault("trainer.devices", f"{devices}{nodes}", f"torchrun has started {there} ranks")
    if there == 1 and num_nodes > 1:
        how = f"torchrun --nnodes {num_nodes} --nproc-per-node {devices} -m attnbench.train ..."
        return Fault("trainer.num_nodes", f"{num_nodes}", f"start the ranks on each node with {how}")
    return None
