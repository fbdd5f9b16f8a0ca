"""Fully sharded data parallelism: each rank stores a shard of parameters, gradients and optimizer state."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from attnbench.nn.blocks import DecoderLayer, EncoderLayer


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of a network over the ranks of `mesh`; blocks are unsharded while they run.

    Source: ZeRO stage 3 (Rajbhandari et al. 2020, section 5.3).

    Args:
        network: network that is changed in place.
        mesh: one-dimensional mesh of all ranks.
    """
    for module in network.modules():
        if isinstance(module, (EncoderLayer, DecoderLayer)):
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def unshard_network(network: nn.Module) -> None:
    """Unshard all parameters until `reshard_network`, because decoding calls parts of the network many times."""
    for module in _list_sharded_modules(network):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def reshard_network(network: nn.Module) -> None:
    """Shard the parameters again after `unshard_network`."""
    for number, module in enumerate(_list_sharded_modules(network)):
        module.set_reshard_after_forward(
            number > 0, recurse=False
        )  # parameters of the root module are needed again at once
        module.reshard()


def gather_full_tensor(tensor: Tensor) -> Tensor:
    """Return a full tensor from its shards; every rank must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Return True if no element is NaN or infinite; of sharded tensors, only this rank's shard is checked."""
    shares = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    # The largest magnitude is NaN if any number is, and unlike a sum of squares it does not overflow.
    largest = [torch.linalg.vector_norm(share.detach(), float("inf")) for share in shares if share.numel()]
    return not largest or bool(torch.isfinite(torch.stack([value.float() for value in largest])).all())


def _list_sharded_modules(network: nn.Module) -> list[FSDPModule]:
    """Return the network and its blocks, which FSDP wraps separately."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]
