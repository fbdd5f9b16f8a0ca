"""Model FLOPs utilization (MFU): achieved FLOP/s over the peak of the device."""

from __future__ import annotations

import re
from typing import NamedTuple


class _PeakTflops(NamedTuple):
    """Peak TFLOPS without sparsity from the data sheet of the maker; None: not supported."""

    fp32: float  # without tensor cores: the default of PyTorch, which does not use TF32
    fp16: float | None
    bf16: float | None


# Whole names as CUDA reports them, so that a laptop's or a cut-down device, a MIG slice of one (its name ends in
# "MIG 1g.5gb" or the like) or a virtual one is unknown rather than wrong.
_PEAKS: dict[str, _PeakTflops] = {
    # NVIDIA H200 and H100 data sheets, with sparsity 1,979, 1,671 and 1,513.
    r"NVIDIA (H200|GH200 \d+GB|H100 80GB HBM3)": _PeakTflops(67, 989.5, 989.5),
    r"NVIDIA (H200|H100) NVL": _PeakTflops(60, 835.5, 835.5),
    r"NVIDIA H100 PCIe": _PeakTflops(51, 756.5, 756.5),
    # NVIDIA A100 data sheet.
    r"(NVIDIA )?A100(-SXM4-\d+GB|-PCIE-\d+GB| \d+GB PCIe)": _PeakTflops(19.5, 312, 312),
    # NVIDIA V100 data sheet.
    r"Tesla V100-SXM2-\d+GB": _PeakTflops(15.7, 125, None),
    r"Tesla V100-PCIE-\d+GB": _PeakTflops(14, 112, None),
    # NVIDIA T4, L4 and A10 data sheets.
    r"Tesla T4": _PeakTflops(8.1, 65, None),
    r"NVIDIA L4": _PeakTflops(30.3, 121, 121),
    r"NVIDIA A10": _PeakTflops(31.2, 125, 125),
    # NVIDIA Ada and Ampere GA102 white papers, appendix A; products summed in float32.
    r"NVIDIA GeForce RTX 4090": _PeakTflops(82.6, 165.2, 165.2),
    r"NVIDIA GeForce RTX 3090": _PeakTflops(35.6, 71, 71),
}


def get_peak_flops(device_name: str, precision: str) -> float | None:
    """Return the peak FLOP/s of a device for matrix products, from its data sheet; None if unknown.

    Args:
        device_name: as torch.cuda.get_device_name returns it.
        precision: Lightning's name: "32-true", "bf16-mixed" or "16-mixed".
    """
    kind = "bf16" if "bf16" in precision else "fp16" if "16" in precision else "fp32" if "32" in precision else None
    for pattern, peak in _PEAKS.items():
        if kind is not None and re.fullmatch(pattern, device_name):
            teraflops: float | None = getattr(peak, kind)
            return None if teraflops is None else teraflops * 1e12
    return None


def compute_mfu(achieved: float | None, peak: float | None) -> float | None:
    """Return model FLOPs utilization: achieved over peak FLOP/s of one device (Chowdhery et al. 2022, appendix B).

    Args:
        achieved: FLOP/s; None: unknown, gives None.
        peak: peak FLOP/s; None: unknown, gives None.

    Raises:
        ValueError: if the result is over 100 %: FLOPs, time or peak must be wrong.
    """
    if achieved is None or peak is None:
        return None
    if achieved > peak:
        raise ValueError(f"MFU of {achieved / peak:.0%}: {achieved:.4g} FLOP/s on a device that does {peak:.4g}")
    return achieved / peak
