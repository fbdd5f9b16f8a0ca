"""Measure time and memory on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.autograd import profiler

MIB = 2**20
SAMPLE_MS = 20  # shorter samples would mostly measure the scheduler of the operating system


def measure_seconds(run: Callable[[], object], device: torch.device) -> float:
    """Measure the time of one call until the device is done, in seconds.

    The result is the mean over as many calls as fill SAMPLE_MS.

    Args:
        run: function to measure.
        device: device that `run` uses.
    """
    _synchronize(device)
    start, calls, taken = time.perf_counter(), 0, 0.0
    while taken < SAMPLE_MS / 1e3:
        run()
        _synchronize(device)
        calls, taken = calls + 1, time.perf_counter() - start
    return taken / calls


def measure_peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Measure the peak memory of tensors during `run`, in bytes above the memory before.

    Args:
        run: function to measure.
        device: device that `run` uses.
    """
    if device.type != "cuda":
        return _measure_peak_with_profiler(run)
    _synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    _synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def describe_memory_method(device: torch.device) -> str:
    """Describe how `measure_peak_bytes` measures."""
    if device.type == "cuda":
        return "torch.cuda.max_memory_allocated"
    return "every allocation of a tensor, inside kernels too, and its end, as torch.autograd.profiler saw them"


def _measure_peak_with_profiler(run: Callable[[], object]) -> int:
    # The resident size of the process would include earlier peaks and the memory that malloc keeps.
    with profiler.profile(profile_memory=True) as seen:
        run()
    assert seen.kineto_results is not None, "there is a result once the profiler has stopped"
    held = most = 0
    for event in sorted(seen.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
