"""Peers: vision Transformers of one shape in one training loop, by timm, torchvision, vit-pytorch and this project."""

# Shapes: N pictures there are, B of a batch, C channels, H height, W width, K classes
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.benchmarks.peers.serving import Job, Turns

_CLASSES = 10
_PICTURES = 1024


def build_timm(job: Job) -> tuple[nn.Module, str]:
    """Build timm's VisionTransformer; return it with the package name."""
    from timm.models.vision_transformer import VisionTransformer

    size, dropout = job["model"], job["model"]["dropout"]
    network = VisionTransformer(
        img_size=job["image_size"],
        patch_size=size["patch_size"],
        in_chans=1,
        num_classes=_CLASSES,
        embed_dim=size["d_model"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        mlp_ratio=size["d_ff"] / size["d_model"],
        pos_drop_rate=dropout,
        proj_drop_rate=dropout,
        attn_drop_rate=job["attention_dropout"],
    )
    return network, "timm"


def build_torchvision(job: Job) -> tuple[nn.Module, str]:
    """Build torchvision's VisionTransformer with one channel instead of three; return it with the package name."""
    from torchvision.models.vision_transformer import VisionTransformer

    size = job["model"]
    network = VisionTransformer(
        image_size=job["image_size"],
        patch_size=size["patch_size"],
        num_layers=size["depth"],
        num_heads=size["num_heads"],
        hidden_dim=size["d_model"],
        mlp_dim=size["d_ff"],
        dropout=size["dropout"],
        attention_dropout=job["attention_dropout"],
        num_classes=_CLASSES,
    )
    network.conv_proj = nn.Conv2d(1, size["d_model"], size["patch_size"], size["patch_size"])
    nn.init.normal_(
        network.heads.head.weight, std=0.02
    )  # torchvision initializes it with zeros, which gives the other layers no gradient
    return network, "torchvision"


def build_simple_vit(job: Job) -> tuple[nn.Module, str]:
    """Build vit-pytorch's SimpleViT, which has no dropout and no class token; return it with the package name."""
    from vit_pytorch import SimpleViT

    size = job["model"]
    network = SimpleViT(
        image_size=job["image_size"],
        patch_size=size["patch_size"],
        num_classes=_CLASSES,
        dim=size["d_model"],
        depth=size["depth"],
        heads=size["num_heads"],
        dim_head=size["d_model"] // size["num_heads"],
        mlp_dim=size["d_ff"],
        channels=1,
    )
    return network, "vit-pytorch"


class _LogitsOnly(nn.Module):
    """Wrapper of this project's network that returns logits only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute logits_BK."""
        return cast(Tensor, self.network(images_BCHW).logits)


def build_ours(job: Job) -> tuple[nn.Module, str]:
    """Build this project's network; return it with the package name."""
    from attnbench.config.root import config_from_dict
    from attnbench.models.build import build_classifier

    network: Any = build_classifier(
        config_from_dict(job["config"]), channels=1, image_size=job["image_size"], classes=_CLASSES
    )
    return _LogitsOnly(network), "attnbench"


NETWORKS = {"timm": build_timm, "torchvision": build_torchvision, "simple_vit": build_simple_vit, "ours": build_ours}


def main() -> None:
    """Train on random images in memory, until no more turns are requested."""
    turns = Turns("torch")
    job = turns.job
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    network, package = NETWORKS[job["how"]](job)
    turns.add_package(package)
    pixels_NCHW = torch.randint(256, (_PICTURES, 1, job["image_size"], job["image_size"]), dtype=torch.uint8)
    labels_N = torch.randint(_CLASSES, (_PICTURES,))
    if job["optimizer"] == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), lr=job["lr"], fused=True)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), lr=job["lr"], weight_decay=0.05, fused=True)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=job["config"]["trainer"]["precision"] == "bf16-mixed")
    while True:
        for rows_B in torch.split(torch.randperm(_PICTURES), job["batch_size"]):
            images_BCHW = pixels_NCHW[rows_B].float().div_(255).sub_(0.5).div_(0.3)
            with mixed:
                loss = F.cross_entropy(network(images_BCHW), labels_N[rows_B])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if job["clip"] is not None:
                nn.utils.clip_grad_norm_(network.parameters(), job["clip"])
            optimizer.step()
            turns.count_units(len(rows_B))


if __name__ == "__main__":
    main()
