"""The translation task learns what luck cannot, scores what it says, and reloads with nothing but a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbench.config.attention import Score
from attnbench.config.model import NormPlacement
from attnbench.config.position import Position
from attnbench.data.errors import DataError
from attnbench.data.pairs import DETOKENIZED, TOKENIZED, ParallelText, Split
from attnbench.data.tokenizer import PAD
from attnbench.nn.normalizers import choose_greedily, collect_choices
from attnbench.records.record import Record, Status, read_record
from attnbench.tasks.base import TrainingError
from attnbench.tasks.build import CheckpointError, build_task, load_task
from attnbench.tasks.translation import Translation, score_translations
from attnbench.training.runner import MODEL_FILE, run_training

from ..conftest import one_at_a_time
from .conftest import Small

OVERFIT = [
    "debug.overfit_batches=1", "model.d_model=32", "model.d_ff=64", "model.dropout=0", "data.batch_tokens=128",
    "optim.lr=0.01", "schedule.warmup_steps=20", "task.label_smoothing=0",
    "trainer.max_epochs=80", "trainer.check_val_every_n_epoch=80", "trainer.final_weights=last",
]  # fmt: skip


# Every part that a model can be made of, one at a time.
VARIANTS = one_at_a_time(
    {"attention.score": Score.scaled_dot, "position": Position.sinusoidal, "model.norm_placement": NormPlacement.pre}
)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_overfits_a_batch(small: Small, tmp_path: Path, variant: dict[str, Any]) -> None:
    record = run_training(small(*OVERFIT, *(f"{key}={value.name}" for key, value in variant.items())), tmp_path, [])
    assert record.metrics["final"]["bleu"] > 90
    assert record.metrics["final"]["loss"] < 0.1


@pytest.mark.parametrize("model", ["rnn", "bahdanau", "luong"])
def test_every_recurrent_model_overfits_a_batch_and_is_drawn(small: Small, tmp_path: Path, model: str) -> None:
    sizes = ["model.d_embedding=32", "model.d_hidden=32", "model.dropout=0", "model.teacher_forcing=1"]
    choices = [override for override in OVERFIT if not override.startswith("model.")]
    choices += ["trainer.max_epochs=120", "trainer.check_val_every_n_epoch=120"]
    drawn = ["callbacks.pictures=true", "callbacks.probe_size=1"]
    record = run_training(small(*choices, f"model={model}", *sizes, *drawn, task="recurrent"), tmp_path, [])
    assert record.metrics["final"]["bleu"] > 90
    assert record.metrics["final"]["loss"] < 0.1
    pictures = [path.stem for path in (tmp_path / "pictures" / "final").glob("*.png")]
    assert pictures == ([] if model == "rnn" else ["cross-0"])


def test_a_checkpoint_reloads_alone_and_translates_the_same(small: Small, tmp_path: Path) -> None:
    config = small("callbacks.samples=2")
    run_training(config, tmp_path, [])
    task = load_task(tmp_path / MODEL_FILE)
    assert isinstance(task, Translation)
    pairs = build_task(config)[1].pairs["test"]
    with torch.inference_mode():
        ids = task.decode(torch.from_numpy(pairs.source.pad_rows(np.arange(len(pairs)))), beam_size=2)
    said = (tmp_path / "outputs" / "test.hypothesis.txt").read_text().splitlines()
    assert [task.codec.target.decode(row) for row in ids] == said


def test_a_record_says_what_was_found_and_where_it_came_from(small: Small, tmp_path: Path) -> None:
    run_training(small("callbacks.samples=1"), tmp_path, ["seed=1"])
    record = read_record(tmp_path / "run.json")
    assert record.status is Status.finished
    assert record.overrides == ["seed=1"]
    assert 0 < record.metrics["test"]["yardsticks"]["unigram_loss"] < math.log(record.config["data"]["vocab_size"])
    for part in ("final", "best", "test"):
        assert {"loss", "perplexity", "bleu", "chrf", "bleu_signature", "chrf_signature"} <= set(record.metrics[part])
    lengths = [len(line.split()) for line in (tmp_path / "outputs" / "test.source.txt").read_text().splitlines()]
    bins = record.metrics["test"]["by_source_words"]
    assert sum(found["sentences"] for found in bins.values()) == len(lengths) == 12
    assert bins["6-10"]["sentences"] == sum(6 <= length <= 10 for length in lengths) > 0
    assert "by_source_words" not in record.metrics["final"]
    assert record.metrics["test"]["perplexity"] == pytest.approx(math.exp(record.metrics["test"]["loss"]))
    assert record.performance["target_tokens_per_sec_global"] > 0 or record.performance["steps"] == 0
    assert 0 <= record.performance["padding"] < 1
    assert record.performance["mfu"] is None
    assert record.parameters["total"] == record.parameters["trainable"] > 0
    assert record.provenance["threads"] == 1


@pytest.mark.parametrize("task_name", ["translation", "recurrent"])
def test_choices_are_weighed_by_the_loss_that_is_minimized(
    small: Small, task_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REINFORCE's gradient is that of the expected loss: of the smoothed one, where that is what is minimized."""
    overrides = ["model.dropout=0", "attention.normalizer=reinforce", "task.label_smoothing=0.3"]
    if task_name == "recurrent":
        overrides.append("model.teacher_forcing=1")
    task, data = build_task(small(*overrides, task=task_name))
    assert isinstance(task, Translation)
    task.train()
    monkeypatch.setattr(task, "log_update", lambda *args, **metrics: None)
    monkeypatch.setattr(task, "scale_loss", lambda loss_sum, update_units: loss_sum / update_units)
    batch = next(iter(data.build_train_loader(data.build_update_sampler())))
    real_BT = batch.target_out_BT != PAD

    def losses(smoothing: float) -> Tensor:
        """Return each sentence's cross-entropy, by torch, from logits of all tokens at once."""
        hidden_BTD = task.sequence_model(batch.source_BS, batch.target_in_BT).hidden
        logits_BTV = F.linear(hidden_BTD, task.sequence_model.output_weight, task.sequence_model.output_bias)
        loss_BT = F.cross_entropy(
            logits_BTV.transpose(1, 2), batch.target_out_BT, label_smoothing=smoothing, reduction="none"
        )
        return loss_BT.where(real_BT, 0).sum(1)

    def expected(smoothing: float) -> Tensor:
        """Compute the gradient when choices are weighed by the loss with this much smoothing."""
        torch.manual_seed(1)
        with collect_choices() as made:
            loss_B = losses(0.3)
        log_p_B = torch.stack(made).sum(0)
        if smoothing == 0:
            torch.manual_seed(1)
            with torch.no_grad():
                reached_B = losses(0)
        else:
            reached_B = loss_B.detach()
        with torch.no_grad(), choose_greedily():
            advantage_B = reached_B - losses(smoothing)
        return gradient((loss_B + advantage_B * log_p_B).sum() / batch.num_update_tokens)

    def gradient(loss: Tensor) -> Tensor:
        task.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])

    torch.manual_seed(1)
    found = gradient(task.training_step(batch, 0))
    torch.testing.assert_close(found, expected(0.3), rtol=1e-3, atol=1e-5)
    assert (found - expected(0)).norm() > 0.05 * found.norm()


def assert_diverged(folder: Path) -> Record:
    record = read_record(folder / "run.json")
    assert (record.status, record.status_label) == (Status.failed, "diverged")
    assert record.error is not None
    assert record.error["type"] == "TrainingError"
    assert record.metrics["test"] == {}
    return record


@pytest.mark.parametrize("every", [1, 2, 1000])
def test_a_loss_that_is_nan_ends_the_run_whatever_is_logged(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    original = Translation.training_step
    monkeypatch.setattr(Translation, "training_step", lambda *args: original(*args) * float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan at update 1: try a lower optim\.lr"):
        run_training(small(f"logger.log_every_n_steps={every}"), tmp_path, [])
    assert_diverged(tmp_path)


@pytest.mark.parametrize("final", ["best", "last", "average"])
@pytest.mark.parametrize("task", ["translation", "recurrent", "classification"])
def test_weights_that_are_not_finite_are_neither_kept_nor_tested(
    small: Small, tmp_path: Path, task: str, final: str
) -> None:
    """One update, whose own loss is finite: what it leaves is not, and no loss of training is left to show it."""
    config = small(
        "optim.lr=1e308", "trainer.max_steps=1", "schedule=constant", "schedule.warmup_steps=0",
        f"trainer.final_weights={final}", "logger.log_every_n_steps=1000", task=task,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="weights are nan or infinite at update 1: try a lower"):
        run_training(config, tmp_path, [])
    assert assert_diverged(tmp_path).metrics["final"] == {}
    assert not [*tmp_path.glob("**/*.ckpt")]


def test_an_operation_that_refuses_nan_is_a_divergence_too(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some operations (a draw from a distribution, an index) raise before there is a loss."""
    calls = 0
    original = Translation.training_step

    def refuse_nan(self: Translation, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            with torch.no_grad():
                next(self.network.parameters()).fill_(float("nan"))
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        return original(self, *args)

    monkeypatch.setattr(Translation, "training_step", refuse_nan)
    with pytest.raises(TrainingError, match=r"weights are nan or infinite \(RuntimeError: probability tensor"):
        run_training(small(), tmp_path, [])
    assert_diverged(tmp_path)


def test_another_error_stays_what_it_is(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Translation, *args: Any) -> Any:
        raise RuntimeError("a fault of the code")

    monkeypatch.setattr(Translation, "training_step", fail)
    with pytest.raises(RuntimeError, match="a fault of the code"):
        run_training(small(), tmp_path, [])
    assert read_record(tmp_path / "run.json").status_label == "failed"


def test_a_validation_loss_that_is_nan_ends_the_run(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Translation._evaluate_batch

    def lose(self: Translation, *args: Any) -> None:
        original(self, *args)
        self._evaluations[0].nll_sum = float("nan")

    monkeypatch.setattr(Translation, "_evaluate_batch", lose)
    with pytest.raises(TrainingError, match="the val loss is nan at update"):
        run_training(small(), tmp_path, [])
    assert assert_diverged(tmp_path).metrics["best"] == {}


def test_training_stops_at_max_steps_with_a_validation(small: Small, tmp_path: Path) -> None:
    record = run_training(small("trainer.max_epochs=null", "trainer.max_steps=6"), tmp_path, [])
    assert record.metrics["final"]["update"] == 6
    assert "bleu" in record.metrics["test"]


def test_training_stops_after_max_minutes_with_a_validation(small: Small, tmp_path: Path) -> None:
    record = run_training(small("trainer.max_epochs=null", "trainer.max_minutes=0.005"), tmp_path, [])
    assert record.status is Status.finished
    assert record.metrics["final"]["update"] >= 1


def test_patience_stops_training_that_gets_no_better(small: Small, tmp_path: Path) -> None:
    choices = ["trainer.max_epochs=50", "trainer.check_val_every_n_epoch=1", "trainer.patience=2", "optim.lr=1e-12"]
    record = run_training(small(*choices), tmp_path, [])
    assert record.metrics["final"]["epoch"] == 3  # the first, and two that were no better


def test_going_on_with_other_sentences_is_refused(small: Small, tmp_path: Path) -> None:
    run_training(small(), tmp_path, [])
    with pytest.raises(DataError, match="not as when this run began; expected the same content"):
        run_training(small("data.grammar_seed=7", "trainer.max_epochs=5"), tmp_path, [])


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no such checkpoint"), (b"", "not a whole"), (b"no archive at all", "not a whole")]
)
def test_what_is_no_checkpoint_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "model.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        load_task(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cut_short_is_refused(small: Small, tmp_path: Path) -> None:
    run_training(small("trainer.max_epochs=1"), tmp_path, [])
    path = tmp_path / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a whole attnbench checkpoint"):
        load_task(path)


@pytest.mark.parametrize("logger", ["csv", "tensorboard", "wandb", "none"])
def test_every_logger_mirrors_the_run(small: Small, tmp_path: Path, logger: str) -> None:
    choices = [f"logger={logger}", "callbacks=default", "callbacks.probe_size=1", "callbacks.progress_bar=false"]
    record = run_training(small(*choices, "trainer.max_epochs=2"), tmp_path, [])
    pictures = sorted(path.name for path in (tmp_path / "pictures" / "final").glob("*.png"))
    assert pictures == ["cross-0.png", "decoder-0.png", "encoder-0.png"]
    with np.load(tmp_path / "pictures" / "final" / "arrays.npz") as arrays:
        weights_LHQK = arrays["cross-0.weights"]
        assert weights_LHQK.shape[:2] == (1, 2)
        assert weights_LHQK.shape[2:] == (len(arrays["cross-0.queries"]), len(arrays["cross-0.keys"]))
        np.testing.assert_allclose(weights_LHQK.sum(-1), 1, rtol=1e-5)
    if logger == "none":
        assert record.tracker is None
        return
    assert record.tracker is not None
    found = {path.suffix for path in (tmp_path / record.tracker["folder"]).rglob("*") if path.is_file()}
    wanted = {"csv": ".csv", "wandb": ".wandb"}.get(logger)
    assert wanted in found if wanted else any("tfevents" in p.name for p in (tmp_path / logger).rglob("*"))


def split(target: list[str], references: dict[str, list[str]]) -> Split:
    return Split("test", target, target, references, ("a", "b"), range(1, len(target) + 1))


@pytest.mark.parametrize(("cased", "case"), [(False, "case:lc"), (True, "case:mixed")])
def test_tokenized_sets_are_scored_on_tokens_and_on_ordinary_text(cased: bool, case: str) -> None:
    tokens = ["a dog , and a cat , sit here .", "the dog &apos;s tail is long today ."]
    plain = ["A dog, and a cat, sit here.", "The dog's tail is long today."]
    train = [line.capitalize() if cased else line for line in tokens]
    parts = {"train": split(train, {}), "val": split(tokens, {}), "test": split(tokens, {})}
    text = ParallelText(**parts, vocabulary_splits=(parts["train"],), is_tokenized=True)
    report = score_translations(tokens, {TOKENIZED: tokens, DETOKENIZED: plain}, text)
    assert report["bleu_tokenized"] == pytest.approx(100)
    assert case in str(report["bleu_signature"])
    assert (report["bleu"] == pytest.approx(100)) is not cased
    only_tokens = score_translations(tokens, {TOKENIZED: tokens}, text)
    assert only_tokens["bleu"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.ones(3), "not a checkpoint of attnbench, but of another program"),
        ([1], "not a checkpoint of attnbench, but of another program"),
        ({"model": {}}, "not a checkpoint of attnbench, but of another program"),
        ({"attnbench": 3}, "not a checkpoint of attnbench, but of another program"),
        ({"attnbench": {"config": 3}}, "not a whole attnbench checkpoint"),
        ({"attnbench": {"config": {"task": {"family": []}}}}, "not a whole attnbench checkpoint"),
        ({"attnbench": {"config": None, "assets": []}, "state_dict": 3}, "not a whole attnbench checkpoint"),
    ],
)
def test_another_programs_file_is_no_checkpoint(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / MODEL_FILE)
    with pytest.raises(CheckpointError, match=said):
        load_task(tmp_path / MODEL_FILE)
