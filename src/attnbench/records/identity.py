"""Identity of a run (a hash of its config) and provenance of its numbers: code, machine, data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the schema imports Hydra, which is slow, and tables do not need it
    from attnbench.config import Config

# Groups and keys that do not change a result: names, folders, observation, hardware.
_IGNORED_GROUPS = frozenset({"name", "paths", "logger", "callbacks", "sweep"})
_PLACEMENT_KEYS = frozenset(
    {
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "num_threads",
        "micro_batch_size",
        "activation_checkpointing",
        "save_every_minutes",
    }
)
_BATCH_NORM_FAMILIES = frozenset({"cnn", "resnet18"})  # families; for others see model.norm_type
_BLOCK_FAMILIES = frozenset({"transformer", "vit"})
_CONTEXTS_WITH_ATTENTION = frozenset({"bahdanau", "luong"})  # values of a recurrent model's `decoder_context`
_USER_FILE_KEYS = frozenset(
    {"train_source", "train_target", "val_source", "val_target", "test_source", "test_target", "folder"}
)
_PACKAGES = (
    "attnbench",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "wandb",
    "numpy",
    "sacrebleu",
    "sacremoses",
    "tokenizers",
)
_REPOSITORY = Path(__file__).resolve().parents[3]


def config_to_dict(config: Config) -> dict[str, Any]:
    """Convert the config to plain nested data, Enums by name: the form in records and checkpoints."""
    return {key: _convert_to_plain_data(value) for key, value in dataclasses.asdict(config).items()}


def select_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values of a `config_to_dict` config that can change a result, including the seed.

    With batch norm this includes how an update is divided, since statistics are computed per part.
    """
    part = {key: value for key, value in config.items() if key not in _IGNORED_GROUPS}
    part["trainer"] = {key: value for key, value in config["trainer"].items() if key not in _PLACEMENT_KEYS}
    if uses_batch_norm(config):
        part["trainer"] |= _normalize_update_division(config)
    return part


def uses_batch_norm(config: Mapping[str, Any]) -> bool:
    """Return True if the model of a `config_to_dict` config has batch norm."""
    model = config.get("model", {})
    return model.get("family") in _BATCH_NORM_FAMILIES or model.get("norm_type") == "batch"


def _normalize_update_division(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an update is divided, in a normal form: a limit that is never reached is dropped."""
    trainer, data = config["trainer"], config.get("data", {})
    size, limit = data.get("batch_tokens", data.get("batch_size")), trainer.get("micro_batch_size")
    try:
        ranks = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
        batches = 1 if limit is None or size is None else math.ceil(size / (limit * ranks))
    except (TypeError, ZeroDivisionError):  # a damaged record
        return {key: trainer.get(key) for key in ("devices", "num_nodes", "micro_batch_size")}
    division: dict[str, Any] = {"devices": ranks}
    division["micro_batch_size"] = None if batches == 1 else math.ceil(size / (batches * ranks))
    if ranks > 1 and trainer.get("strategy") == "fsdp":  # each rank has its own statistics
        division["strategy"] = "fsdp"
    return division


def _select_hashed_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values that the run_id is computed from: `select_identity` without keys that are not used."""
    part = select_identity(config)
    model, trainer, data, optim = (dict(part.get(key, {})) for key in ("model", "trainer", "data", "optim"))
    has_blocks = model.get("family") in _BLOCK_FAMILIES
    if not has_blocks:
        part.pop("position", None)
        if model.get("decoder_context") not in _CONTEXTS_WITH_ATTENTION:
            part.pop("attention", None)
    if trainer.get("final_weights") != "average":
        trainer.pop("average_last", None)
    for key in ("beta1", "beta2", "eps") if optim.get("name") == "sgd" else ("momentum",):
        optim.pop(key, None)
    if data.get("checksum") is not None:  # paths of the user's own files
        data = {key: value for key, value in data.items() if key not in _USER_FILE_KEYS}
    debug = {key: value for key, value in part.get("debug", {}).items() if key != "detect_anomaly"}
    part |= {"trainer": trainer, "data": data, "optim": optim, "debug": debug}
    return {group: _normalize_target(values) for group, values in part.items()}


def _normalize_target(values: Any) -> Any:
    """Drop an unset `target` from a config group; drop `score` or `name` if `target` replaces it."""
    if not isinstance(values, dict) or "target" not in values:
        return values
    dropped = {"target"} if values["target"] is None else {"score", "name"}
    return {key: value for key, value in values.items() if key not in dropped}


def compute_run_id(config: Config) -> str:
    """Compute the run_id: twelve hexadecimal digits of a SHA-256 of the config's identity.

    It does not depend on time, host or folder.
    """
    return compute_run_id_from_dict(config_to_dict(config))


def compute_run_id_from_dict(config: Mapping[str, Any]) -> str:
    """Return the run_id of a `config_to_dict` config."""
    canonical = json.dumps(_select_hashed_values(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def collect_provenance(
    data_checksums: Mapping[str, str], *, device: str | None = None, num_threads: int | None = None
) -> dict[str, Any]:
    """Collect what is needed to reproduce the numbers: commit, versions, hardware, data.

    Args:
        data_checksums: SHA-256 by file.
        device: name of the accelerator, known only to callers with torch.
        num_threads: CPU threads of torch, also known only to such callers.
    """
    return {
        "git": _get_git_state(),
        "versions": {"python": platform.python_version()} | {name: _get_package_version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _get_cpu_name(),
        "cpu_cores": count_cores(),
        "threads": num_threads,
        "device": device,
        "data": dict(data_checksums),
    }


def _convert_to_plain_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _convert_to_plain_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert_to_plain_data(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def _get_package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _get_git_state() -> dict[str, Any] | None:
    """Return the commit of the checkout that this package runs from, and whether its code was changed."""
    found = _run_git("rev-parse", "--show-toplevel", "HEAD")
    if found is None:
        return None
    top, commit = found.splitlines()
    if Path(top).resolve() != _REPOSITORY:  # installed inside another repository
        return None
    return {"commit": commit, "dirty": bool(_run_git("status", "--porcelain", "--", "src", "conf"))}


def _run_git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(_REPOSITORY), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _get_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
