"""What W&B gets of a run, read back by W&B's own reader; and that the mirror never costs the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from attnbench import history
from attnbench.record import Status
from attnbench.tasks.run import execute
from attnbench.tasks.translation import Translation
from attnbench.tracking.folders import lines, sessions

from .conftest import Small

WATCHED = ["logger=wandb", "callbacks=default", "callbacks.probe_size=1", "callbacks.progress_bar=false"]


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line[kind] for line in found if line["type"] == kind]


def curve(found: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """A metric against the axis that every metric has."""
    items = [line["item"] for line in of_kind(found, "history")]
    assert [item["_step"] for item in items] == list(range(len(items)))
    return [(item["trainer/global_step"], pytest.approx(item[key], rel=1e-6)) for item in items if key in item]


def told(folder: Path, key: str) -> list[tuple[int, float]]:
    """The same of history.jsonl, which counts from 1."""
    return [(int(entry["update"]) - 1, entry[key]) for entry in history.read(folder) if key in entry]


def test_a_failed_run_and_the_session_that_ends_it_as_wandb_reads_them(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(*WATCHED, "logger.tags=[mine]", "sweep.name=read_back", "logger.every_steps=1")
    steps, original = 0, Translation.training_step

    def failing(self: Translation, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 12:  # of 16, with a checkpoint after 8
            raise RuntimeError("bad luck")
        return original(self, *args)

    monkeypatch.setattr(Translation, "training_step", failing)
    with pytest.raises(RuntimeError, match="bad luck"):
        execute(config, tmp_path, [])
    (session,) = sessions(tmp_path)
    failed = list(lines(session))
    assert of_kind(failed, "exit")[0]["exit_code"] == 1
    assert curve(failed, "val/loss") == told(tmp_path, "val/loss")
    record = execute(config, tmp_path, [])
    (session,) = sessions(tmp_path)  # the newest, which is whole by itself
    assert record.tracker is not None
    assert tmp_path / record.tracker["folder"] == session.parent
    found = list(lines(session))
    assert of_kind(found, "exit")[0]["exit_code"] == 0
    for key in ("train/loss", "val/loss", "val/bleu"):
        assert curve(found, key) == told(tmp_path, key)
    assert len(told(tmp_path, "train/loss")) == 16
    assert_said_who_it_is(found, record.run_id)
    assert_summarised(found, record.metrics)
    assert_media(found, session.parent / "files")


def assert_said_who_it_is(found: list[dict[str, Any]], run_id: str) -> None:
    (run,) = of_kind(found, "run")
    assert (run["run_id"], run["run_group"], run["job_type"]) == (run_id, "read_back", "translation")
    assert set(run["tags"]) == {"transformer", "synthetic_translation", "mine"}
    assert run["config"]["update"]["model"]["num_heads"] == 2
    if (Path(__file__).parents[2] / ".git").exists():
        assert len(run["git"]["commit"]) == 40
    metrics = {line.get("name", line.get("glob_name")): line for line in of_kind(found, "metric")}
    assert metrics["trainer/global_step"]["options"]["defined"]
    assert metrics["*"]["step_metric"] == metrics["val/bleu"]["step_metric"] == "trainer/global_step"
    assert of_kind(found, "stats")[0]["item"]["proc.memory.rssMB"] > 0  # of the system


def assert_summarised(found: list[dict[str, Any]], metrics: dict[str, dict[str, Any]]) -> None:
    summary: dict[str, Any] = {}
    for line in of_kind(found, "summary"):
        summary |= line["update"]
    for part in ("best", "test"):
        assert summary[f"{part}/bleu"] == pytest.approx(metrics[part]["bleu"])
        assert summary[f"{part}/loss"] == pytest.approx(metrics[part]["loss"])
    assert summary["best/update"] in (8, 16)
    assert summary["parameters/total"] > 0


def assert_media(found: list[dict[str, Any]], folder: Path) -> None:
    logged = {key for line in of_kind(found, "history") for key in line["item"]}
    assert {"samples.path", "pictures/cross-0.filenames", "pictures/encoder-0.filenames"} <= logged
    for pattern in ("media/table/samples_*.table.json", "media/images/pictures/cross-0_*.png"):
        assert len(list(folder.glob(pattern))) == 1, pattern


def test_online_without_a_login_goes_on_offline_with_one_sentence(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wandb.teardown()  # it remembers the environment that it was first used in
    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    record = execute(small("logger=wandb", "logger.mode=online"), tmp_path, [])
    wandb.teardown()
    assert record.status is Status.finished
    assert record.tracker is not None
    why = (
        "logger.mode=online: W&B did not start: nobody is logged in, which `wandb login` or WANDB_API_KEY mends; "
        "going on offline, and `make sync` uploads it later"
    )
    assert (record.tracker["mode"], record.tracker["fallback"]) == ("offline", why)
    said = capfd.readouterr()
    assert [line for line in (said.out + said.err).splitlines() if "andb" in line or "W&B" in line] == [
        f"attnbench: {why}"
    ]


def test_what_wandb_does_not_take_costs_the_run_nothing(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = WandbLogger.log_metrics

    def refuse(self: WandbLogger, metrics: dict[str, Any], step: int | None = None) -> None:
        if "samples" in metrics:
            raise wandb.errors.CommError("no network")
        log(self, metrics, step)

    monkeypatch.setattr(WandbLogger, "log_metrics", refuse)
    record = execute(small("logger=wandb", "callbacks.samples=1"), tmp_path, [])
    assert record.status is Status.finished
    assert record.tracker is not None
    assert record.tracker["lost"] == {"samples": "CommError: no network"}
    assert capsys.readouterr().err == "attnbench: W&B did not take samples: CommError: no network\n"
