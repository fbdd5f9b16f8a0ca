"""The classification task learns what luck cannot, scores what it finds, and draws what it attended to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnbench.config.attention import Score
from attnbench.config.model import NormPlacement, Pool
from attnbench.config.position import Position
from attnbench.config.root import COMPATIBLE_FAMILIES
from attnbench.config.task import ClassificationConfig
from attnbench.records.record import read_record
from attnbench.tasks.build import build_task, load_task
from attnbench.tasks.classification import Classification
from attnbench.tasks.classification_data import ClassificationData
from attnbench.training.runner import MODEL_FILE, run_training

from ..conftest import one_at_a_time
from .conftest import SMALL, Small, compose

BASELINES = sorted(COMPATIBLE_FAMILIES[ClassificationConfig]["model"] - {"vit"})
OVERFIT = [
    "debug.overfit_batches=1", "data.batch_size=16", "data.crop_padding=0", "data.horizontal_flip=false",
    "optim.lr=5e-3",
    "schedule.warmup_steps=5", "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=60",
    "trainer.final_weights=last",
]  # fmt: skip
ONCE = ["data.train_images=32", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"]


def baseline(*overrides: str, model: str) -> list[str]:
    """A small run of a model that is no stack of blocks."""
    kept = [override for override in SMALL["classification"] if not override.startswith("model.")]
    small = {"mlp": ["model.d_hidden=32"], "cnn": ["model.widths=[16,32]", "model.blocks=1"]}.get(model, [])
    return [*kept, f"model={model}", *small, *overrides]


# Every part that a model can be made of, one at a time.
VARIANTS = one_at_a_time(
    {
        "attention.score": Score.scaled_dot, "position": Position.learned, "model.norm_placement": NormPlacement.pre,
        "model.pool": Pool.cls,
    }
)  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_overfits_a_batch(small: Small, tmp_path: Path, variant: dict[str, Any]) -> None:
    choices = ["model.dropout=0", "model.d_model=32", *(f"{key}={value.name}" for key, value in variant.items())]
    record = run_training(small(*OVERFIT, *choices, task="classification"), tmp_path, [])
    assert record.metrics["final"]["accuracy"] == 100
    assert record.metrics["final"]["loss"] < 0.3


@pytest.mark.parametrize("model", BASELINES)
def test_every_baseline_overfits_a_batch(tmp_path: Path, model: str) -> None:
    # One is large, the others are slow to tell pictures apart by the statistics that they ran up.
    size = ["data.batch_size=8", "trainer.max_epochs=40"] if model == "resnet18" else ["trainer.max_epochs=100"]
    record = run_training(compose(*baseline(*OVERFIT, *size, model=model)), tmp_path, [])
    assert record.metrics["final"]["accuracy"] == 100
    assert record.performance["flops_per_unit"] > 0


def test_a_record_says_what_was_found(small: Small, tmp_path: Path) -> None:
    config = small("callbacks.samples=3", task="classification")
    run_training(config, tmp_path, [])
    record = read_record(tmp_path / "run.json")
    for part in ("final", "best", "test"):
        found = record.metrics[part]
        assert {"accuracy", "loss", "calibration_error"} < set(found)
        confusion = np.array(found["confusion"])
        assert confusion.shape == (10, 10)
        assert confusion.sum() == 20
        assert found["accuracy"] == pytest.approx(100 * np.trace(confusion) / 20)
        assert set(found["per_class"]) == set(build_task(config)[0].assets["classes"])
    assert record.performance["padding"] in (None, 0)
    assert {"images_per_sec_global", "images_per_sec_per_device", "mfu"} <= set(record.performance)
    said = (tmp_path / "outputs" / "test.hypothesis.txt").read_text().splitlines()
    meant = (tmp_path / "outputs" / "test.reference.txt").read_text().splitlines()
    right = sum(a == b for a, b in zip(said, meant, strict=True))
    assert 5 * right == pytest.approx(record.metrics["test"]["accuracy"])


def test_a_checkpoint_reloads_alone_and_classifies_the_same(small: Small, tmp_path: Path) -> None:
    config = small(task="classification")
    record = run_training(config, tmp_path, [])
    task, data = load_task(tmp_path / MODEL_FILE), build_task(config)[1]
    assert isinstance(task, Classification)
    assert isinstance(data, ClassificationData)
    with torch.inference_mode():
        logits = task.classifier(task.preparation(data.images.test.pixels_NCHW)).logits
    assert F.cross_entropy(logits, data.images.test.labels_N).item() == pytest.approx(
        record.metrics["test"]["loss"], rel=1e-5
    )


@pytest.mark.parametrize("pool", Pool, ids=lambda p: p.name)
def test_pictures_of_a_vision_transformer(small: Small, tmp_path: Path, pool: Pool) -> None:
    choices = ["callbacks=default", "callbacks.probe_size=4", "callbacks.progress_bar=false", f"model.pool={pool.name}",
               *ONCE]  # fmt: skip
    run_training(small(*choices, task="classification"), tmp_path, [])
    folder = tmp_path / "pictures" / "final"
    assert {path.stem for path in folder.glob("*.png")} == {
        "attention", "attention-0", "attention-1", "attention-2", "attention-3", "confusion", "positions"
    }  # fmt: skip
    with np.load(folder / "arrays.npz") as arrays:
        weights_LHP = arrays["attention-0.weights"]
        assert weights_LHP.shape == (1, 2, 49)
        assert (weights_LHP.sum(-1) < 1 + 1e-5).all()


@pytest.mark.parametrize("model", BASELINES)
def test_pictures_of_a_model_without_attention(tmp_path: Path, model: str) -> None:
    choices = ["callbacks=default", "callbacks.progress_bar=false", *ONCE]
    run_training(compose(*baseline(*choices, model=model)), tmp_path, [])
    assert [path.stem for path in (tmp_path / "pictures" / "final").glob("*.png")] == ["confusion"]


def test_cosine_ends_at_the_last_update_of_the_last_epoch(small: Small, tmp_path: Path) -> None:
    rates: list[float] = []
    original = Classification.training_step

    def recording(self: Classification, *args: object) -> torch.Tensor:
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return original(self, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "training_step", recording)
        run_training(small("optim.lr=1", "schedule.warmup_steps=4", task="classification"), tmp_path, [])
    assert len(rates) == 16  # 4 epochs of 4 updates
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 <= rates[-1] < 0.03
