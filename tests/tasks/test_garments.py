"""The drawn garments tell a model that looks at shapes from one that only weighs pixels."""

from __future__ import annotations

from pathlib import Path

from attnbench.sweeps.plan import compose_run
from attnbench.training.runner import run_training

RUN = ["experiment=vit_synthetic_garments", "trainer.accelerator=cpu", "trainer.num_threads=1", "logger=none",
       "callbacks=quiet", "optim.lr=3e-3", "schedule.warmup_steps=30", "trainer.max_epochs=8",
       "trainer.check_val_every_n_epoch=8"]  # fmt: skip


def test_a_small_vision_transformer_is_far_ahead_of_a_linear_model(tmp_path: Path) -> None:
    run = [*RUN, f"paths.cache={tmp_path}/cache"]
    linear = run_training(compose_run([*run, "model=linear"]), tmp_path / "linear", []).metrics["test"]["accuracy"]
    vit = run_training(compose_run([*run, "model.patch_size=7"]), tmp_path / "vit", []).metrics["test"]["accuracy"]
    assert 50 < linear < 85
    assert vit > linear + 8
