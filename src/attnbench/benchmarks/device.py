"""The clock and the memory of a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.autograd import profiler

MIB = 2**20
SAMPLE_MS = 20  # a shorter one would tell of the system's scheduler


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long `run` takes until the device has done what it was given: a mean over as many calls as fill SAMPLE_MS."""
    _wait(device)
    start, calls, taken = time.perf_counter(), 0, 0.0
    while taken < SAMPLE_MS / 1e3:
        run()
        _wait(device)
        calls, taken = calls + 1, time.perf_counter() - start
    return taken / calls


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors that there are at once during `run`, beyond those that there were before."""
    if device.type != "cuda":
        return _peak_by_profiler(run)
    _wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    _wait(device)
    return torch.cuda.max_memory_allocated(device) - before


def memory_method(device: torch.device) -> str:
    """What `peak_bytes` reads."""
    if device.type == "cuda":
        return "torch.cuda.max_memory_allocated"
    return "every allocation of a tensor, inside kernels too, and its end, as torch.autograd.profiler saw them"


def _peak_by_profiler(run: Callable[[], object]) -> int:
    # Not the process's resident size: it is that of the worst moment so far, and what malloc keeps is in it.
    with profiler.profile(profile_memory=True) as seen:
        run()
    assert seen.kineto_results is not None, "there is a result once the profiler has stopped"
    held = most = 0
    for event in sorted(seen.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
