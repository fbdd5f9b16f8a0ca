"""A network of which each rank keeps a share: parameters, gradients and what the optimiser knows of them (FSDP)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from attnbench.nn.blocks import DecoderLayer, EncoderLayer


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Cut the parameters of `network` in as many shares as `mesh` has ranks; a block is put together while it runs.

    As in ZeRO, stage 3 (Rajbhandari et al. 2020, section 5.3).
    """
    for module in network.modules():
        if isinstance(module, (EncoderLayer, DecoderLayer)):
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def gather(network: nn.Module) -> None:
    """Put everything together until `scatter`: who decodes calls parts of a network, and calls them many times."""
    for module in _sharded(network):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def scatter(network: nn.Module) -> None:
    """End what `gather` began."""
    for number, module in enumerate(_sharded(network)):
        module.set_reshard_after_forward(number > 0, recurse=False)  # the network's own are needed again at once
        module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this rank may have but a share; every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Check that no number of `tensors` is NaN or infinite; of a sharded one, this rank's share is looked at."""
    shares = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    # The largest magnitude is NaN if any number is, and unlike a sum of squares it does not overflow.
    largest = [torch.linalg.vector_norm(share.detach(), float("inf")) for share in shares if share.numel()]
    return not largest or bool(torch.isfinite(torch.stack([value.float() for value in largest])).all())


def _sharded(network: nn.Module) -> list[FSDPModule]:
    """The network itself and its blocks."""
    return [module for module in network.modules() if isinstance(module, FSDPModule)]
