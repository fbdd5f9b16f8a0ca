"""Test the user's own scores, optimizers, schedules and callbacks in a config."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.config import Config, ConfigError
from attnbench.config.attention import AttentionConfig, Score
from attnbench.records.identity import compute_run_id
from attnbench.records.record import Status, read_records
from attnbench.sweeps.plan import build_plan, compose_run

MODULE = """
import math
import pytorch_lightning as pl
import torch
from attnbench.nn.scoring import ScoringFunction

class Manhattan(ScoringFunction):
    def forward(self, q_BHQD, k_BHKD):
        return -torch.cdist(q_BHQD, k_BHKD, p=1)

def build_optimizer(groups, lr):
    return torch.optim.RMSprop(groups, lr=lr)

def compute_factor(step, total_steps):
    return 1 - step / total_steps

class Marker(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        open("marker", "w").write(type(trainer.optimizers[0]).__name__)

def not_a_class(*arguments, **options):
    return None
"""
SMALL = [
    "experiment=synthetic_translation",
    "model=toy",
    "data.train_pairs=60",
    "data.val_pairs=10",
    "data.test_pairs=10",
    "trainer.max_epochs=null",
    "trainer.max_steps=4",
    "logger=none",
    "callbacks=quiet",
]
TARGETS = [
    "attention.target=mine.Manhattan",
    "optim.target=mine.build_optimizer",
    "schedule.target=mine.compute_factor",
    "callbacks.targets=[mine.Marker]",
]
# The current folder is not in sys.path, as in a console script.
SCRIPT = "import sys; sys.path.remove(''); from attnbench.__main__ import main; sys.exit(main())"


def train(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(MODULE)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "train", *SMALL, *overrides],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_run_with_the_user_s_own_objects(tmp_path: Path) -> None:
    found = train(tmp_path, *TARGETS)
    assert found.returncode == 0, found.stderr
    (record,), _ = read_records(tmp_path / "multirun")
    assert record.status is Status.finished
    assert record.config["attention"]["target"] == "mine.Manhattan"
    assert record.performance["flops_per_unit"] is None, "nothing is known of the score's cost"
    assert (tmp_path / "marker").read_text() == "RMSprop"


def test_the_score_of_the_tutorial_trains(tmp_path: Path) -> None:
    page = Path(__file__).parents[1] / "docs" / "tutorials" / "add_a_scoring_function.md"
    example = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "mymodule.py").write_text(example[1])
    found = train(tmp_path, "attention.target=mymodule.Manhattan")
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("attention.target=nowhere.Manhattan", "there is no module nowhere"),
        ("attention.target=Manhattan", "expected the dotted path of an object"),
        ("attention.target=mine.Manhatten", "has no attribute 'Manhatten'"),
        ("attention.target=torch.nn.Linear", "expected a subclass of attnbench.nn.scoring.ScoringFunction"),
        ("optim.target=mine.not_a_class", "expected a torch.optim.Optimizer"),
        ("callbacks.targets=[mine.not_a_class]", "expected a subclass of pytorch_lightning.Callback"),
    ],
)
def test_a_wrong_target_is_refused(override: str, message: str, tmp_path: Path) -> None:
    found = train(tmp_path, override)
    assert found.returncode == 2, found.stderr
    assert f"{override.partition('=')[0]}=" in found.stderr
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_rotary_positions_are_refused_beside_an_unknown_score() -> None:
    with pytest.raises(ConfigError, match=r"attention\.target=math\.sqrt: expected null for position=rotary"):
        compose_run(["attention.target=math.sqrt", "position=rotary"])


def test_a_target_is_part_of_the_run_id_and_no_target_is_not() -> None:
    plain, targeted = Config(), Config(attention=AttentionConfig(target="math.sqrt"))
    plain.model.family = targeted.model.family = "transformer"
    assert compute_run_id(plain) != compute_run_id(targeted)
    targeted.attention.score = Score.dot  # not used beside a target
    assert compute_run_id(targeted) == compute_run_id(
        Config(model=plain.model, attention=AttentionConfig(target="math.sqrt"))
    )


def test_a_target_can_be_swept_beside_built_in_scores() -> None:
    plan = build_plan(["attention.score=dot,additive", "attention.target=null,math.sqrt"], is_multirun=True)
    assert len(plan.runs) == 3, "the target replaces each of the scores, and is planned once"
