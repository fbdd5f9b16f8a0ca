"""Process group and sharding of a run with several ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import distributed
from torch._C._distributed_c10d import TCPStore

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.trainer import Accelerator, TrainerConfig
from attnbench.records.ranks import RankContext, check_rank_count, get_rank_context, get_world_size, is_rank_unknown
from attnbench.training.checkpointing import AtomicCheckpointIO


def uses_gpu(trainer: TrainerConfig) -> bool:
    """Return True if this run computes on a GPU."""
    return trainer.accelerator is not Accelerator.cpu and torch.cuda.is_available()


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP strategy that also works on CPUs, and reads checkpoints without the plugin that writes them."""

    def __init__(self, ranks: int, checkpoints: AtomicCheckpointIO) -> None:
        super().__init__(ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)
        self._checkpoints = checkpoints

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint with the plugin."""
        return self._checkpoints.convert_progress(super().load_checkpoint(checkpoint_path, weights_only))


@contextmanager
def process_group(config: Config) -> Iterator[None]:
    """Create the process group of the ranks that a supervisor started; destroy it at the end of the context.

    Raises:
        ConfigError: the config asks for ranks that are not started, or for devices that do not exist.
    """
    place, trainer = get_rank_context(), config.trainer
    fault = check_rank_count(trainer.devices, trainer.num_nodes)
    if fault is None and get_world_size() == 1 and trainer.devices > 1:
        how = "attnbench train starts them, and so does torchrun"
        fault = Fault("trainer.devices", f"{trainer.devices}", f"expected ranks: {how}")
    if fault is None and is_rank_unknown():
        expected = (
            f"WORLD_SIZE={get_world_size()} is set, and RANK or LOCAL_RANK is not: unset it, or start with torchrun"
        )
        fault = Fault("trainer.devices", f"{trainer.devices}", expected)
    fault = fault or _find_device_fault(trainer)
    if fault is not None:
        raise ConfigError([fault])
    if place is None:
        yield
        return
    gpu = uses_gpu(trainer)
    if gpu:
        torch.cuda.set_device(place.rank)
    store = _create_store(place)
    backend = "nccl" if gpu else "gloo"
    distributed.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _find_device_fault(trainer: TrainerConfig) -> Fault | None:
    """Find why a run cannot use the devices that it asks for; None if it can."""
    if trainer.accelerator is Accelerator.gpu and not torch.cuda.is_available():
        return Fault("trainer.accelerator", "gpu", "torch finds no GPU here; expected cpu or auto")
    if uses_gpu(trainer) and trainer.devices > torch.cuda.device_count():
        return Fault("trainer.devices", f"{trainer.devices}", f"torch finds {torch.cuda.device_count()} GPUs here")
    return None


def _create_store(context: RankContext) -> TCPStore:
    """Create a store for all ranks; the system assigns its port, so that two runs never use the same one."""
    if context.rank > 0:
        try:
            port = context.share_port(None)
        except EOFError:
            raise RuntimeError("rank 0 ended before the ranks had met") from None
        return TCPStore("127.0.0.1", port, context.world_size)
    store = TCPStore("127.0.0.1", 0, context.world_size, is_master=True, wait_for_workers=False)
    context.share_port(store.port)
    return store
