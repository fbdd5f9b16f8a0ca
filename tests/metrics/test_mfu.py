from __future__ import annotations

import pytest

from attnbench.metrics.mfu import compute_mfu, get_peak_flops


@pytest.mark.parametrize(
    ("device", "precision", "teraflops"),
    [
        ("NVIDIA H200", "bf16-mixed", 989.5),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.5),
        ("NVIDIA H100 PCIe", "16-mixed", 756.5),
        ("NVIDIA H200", "32-true", 67),
        ("NVIDIA A100-SXM4-80GB", "bf16-true", 312),
        ("NVIDIA A100 80GB PCIe", "32-true", 19.5),
        ("Tesla V100-SXM2-16GB", "16-mixed", 125),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", 165.2),
        ("Tesla V100-SXM2-16GB", "bf16-mixed", None),
        ("NVIDIA H200", "64-true", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA A10G", "bf16-mixed", None),
        ("NVIDIA H200 MIG 1g.18gb", "bf16-mixed", None),
        ("NVIDIA A100-SXM4-40GB", "bf16-mixed", 312),
        ("NVIDIA A100-PCIE-40GB", "bf16-mixed", 312),
        ("A100-SXM4-80GB", "bf16-mixed", 312),
        ("NVIDIA GH200 480GB", "bf16-mixed", 989.5),
        ("NVIDIA GH200 480GB MIG 1g.12gb", "bf16-mixed", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16-mixed", None),
        ("NVIDIA A100 80GB PCIe MIG 3g.40gb", "bf16-mixed", None),
        ("NVIDIA A100-SXM-64GB", "bf16-mixed", None),
        ("GRID A100-10C", "bf16-mixed", None),
        ("GRID A100D-80C", "bf16-mixed", None),
        ("NVIDIA A100-40C", "bf16-mixed", None),
        ("cpu", "32-true", None),
    ],
)
def test_peak(device: str, precision: str, teraflops: float | None) -> None:
    found = get_peak_flops(device, precision)
    assert found == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_mfu() -> None:
    assert compute_mfu(2e12, 8e12) == 0.25
    assert compute_mfu(None, 8e12) is None
    assert compute_mfu(2e12, None) is None
    with pytest.raises(ValueError, match="MFU of 150%"):
        compute_mfu(12e12, 8e12)
