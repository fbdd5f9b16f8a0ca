"""What W&B gets of a run, read back by W&B's own reader; and that the mirror never costs the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger

from attnbench.config import ConfigError
from attnbench.records import history
from attnbench.records.lifecycle import create_record
from attnbench.records.record import RECORD_FILE, Status, read_record
from attnbench.tasks.translation import Translation
from attnbench.tracking import runs
from attnbench.tracking.sessions import find_sessions, read_lines
from attnbench.tracking.summary import build_artifact_name
from attnbench.training.loggers import build_logger, close_logger
from attnbench.training.runner import run_training

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
    return [(int(entry["update"]) - 1, entry[key]) for entry in history.read_history(folder) if key in entry]


def test_a_failed_run_and_the_session_that_ends_it_as_wandb_reads_them(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(*WATCHED, "logger.tags=[mine]", "sweep.name=read_back", "logger.log_every_n_steps=1")
    steps, original = 0, Translation.training_step

    def failing(self: Translation, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 12:  # of 16, with a checkpoint after 8
            raise RuntimeError("bad luck")
        return original(self, *args)

    monkeypatch.setattr(Translation, "training_step", failing)
    with pytest.raises(RuntimeError, match="bad luck"):
        run_training(config, tmp_path, [])
    (session,) = find_sessions(tmp_path)
    failed = list(read_lines(session))
    assert of_kind(failed, "exit")[0]["exit_code"] == 1
    assert curve(failed, "val/loss") == told(tmp_path, "val/loss")
    record = run_training(config, tmp_path, [])
    (session,) = find_sessions(tmp_path)  # the newest, which is whole by itself
    assert record.tracker is not None
    assert tmp_path / record.tracker["folder"] == session.parent
    found = list(read_lines(session))
    assert of_kind(found, "exit")[0]["exit_code"] == 0
    for key in ("train/loss", "val/loss", "val/bleu"):
        assert curve(found, key) == told(tmp_path, key)
    assert len(told(tmp_path, "train/loss")) == 16
    assert_said_who_it_is(found, record.run_id)
    assert_summarized(found, record.metrics)
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


def assert_summarized(found: list[dict[str, Any]], metrics: dict[str, dict[str, Any]]) -> None:
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
    record = run_training(small("logger=wandb", "logger.mode=online"), tmp_path, [])
    wandb.teardown()
    assert record.status is Status.finished
    assert record.tracker is not None
    why = (
        "logger.mode=online: W&B did not start: not logged in: run `wandb login` once, or set WANDB_API_KEY; "
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
    record = run_training(small("logger=wandb", "callbacks.samples=1"), tmp_path, [])
    assert record.status is Status.finished
    assert record.tracker is not None
    assert record.tracker["lost"] == {"samples": "CommError: no network"}
    assert capsys.readouterr().err == "attnbench: W&B did not take samples: CommError: no network\n"


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("WANDB_RUN_ID", "abc/def", "Run ID cannot contain the characters: :;,#?/'"),
        ("WANDB_MODE", "foo", "mode: Input should be 'online', 'offline', 'shared', 'disabled', 'dryrun' or 'run'"),
        ("WANDB_SILENT", "maybe", "silent: Input should be a valid boolean, unable to interpret input"),
    ],
)
def test_a_variable_that_wandb_does_not_take_costs_the_mirror_and_not_the_run(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    wandb.teardown()  # it remembers the environment that it was first used in
    monkeypatch.setenv(variable, value)
    config = small("logger=wandb")
    tracker = build_logger(config, create_record(config, []), tmp_path)
    monkeypatch.undo()
    wandb.teardown()
    assert tracker.logger is None
    assert tracker.description == {
        "kind": "none",
        "fallback": f"W&B did not start: {why}; this run has no mirror at W&B, and all of its files here",
    }
    close_logger(tracker, failed=False)


def test_seconds_that_are_no_number_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("soon", "inf", "-1", ""):
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", value)
        assert runs._get_timeout("WANDB_INIT_TIMEOUT") == 20.0
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7.5")
    assert runs._get_timeout("WANDB_INIT_TIMEOUT") == 7.5


def test_a_mirror_that_breaks_at_the_end_costs_the_run_nothing(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("gone")

    config = small("logger=wandb")
    tracker = build_logger(config, create_record(config, []), tmp_path)
    run = tracker.logger.experiment  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr(type(run.summary), "update", refuse)
        patch.setattr(type(run), "finish", refuse)
        tracker.log_summary(create_record(config, []))
        close_logger(tracker, failed=False)
    run.finish()
    assert tracker.description is not None
    assert tracker.description["unsent"] == "W&B did not close this run: gone"
    assert list(tracker.description["lost"].values()) == ["CommError: gone"]


def test_a_shell_of_an_allocation_and_no_tracker(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's variables, and a RANK that somebody left, do not make one process one of several."""
    strays = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "77", "SLURM_PROCID": "2", "SLURM_LOCALID": "2", "RANK": "2"}
    for name, value in (strays | {"SLURM_NODEID": "0", "SLURM_JOB_NAME": "train"}).items():
        monkeypatch.setenv(name, value)
    record = run_training(
        small("callbacks=default", "callbacks.pictures=false", "callbacks.progress_bar=false"), tmp_path, []
    )
    assert record.status is Status.finished
    assert read_record(tmp_path / RECORD_FILE).status is Status.finished
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["checkpoints", "outputs"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_fault_of_the_config(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu: torch finds no GPU here; expected cpu or auto"):
        run_training(small("trainer.accelerator=gpu"), tmp_path, [])
    assert read_record(tmp_path / RECORD_FILE).status_label == "refused"


def test_ranks_of_which_this_one_is_unknown_are_a_fault(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE=2 is set, and RANK or LOCAL_RANK is not"):
        run_training(small("trainer.devices=2", "trainer.strategy=ddp"), tmp_path, [])


def test_the_artifact_of_a_sweep_has_a_name_that_wandb_takes() -> None:
    for sweep in ("heads", "a&b%_$#x", "x" * 300, "größe"):
        name = build_artifact_name(sweep)
        assert wandb.Artifact(name, "results").name == name
    assert build_artifact_name("a&b%_$#x") == "a-b-_--x-results"
