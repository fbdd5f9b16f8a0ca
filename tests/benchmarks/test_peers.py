"""Contenders: what they are told, their turns, and those that need no other toolkit, in this very process."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnbench.benchmarks import peer_environments, peer_suites
from attnbench.benchmarks.configs import compose_peer_configs
from attnbench.benchmarks.measurement import NotInstalledError, measure_suite
from attnbench.benchmarks.peer_inputs import TranslationInputs
from attnbench.benchmarks.peer_runs import Peer, PeerGroup, build_peer_job
from attnbench.benchmarks.peers.corpus import Corpus, pad_sentences
from attnbench.benchmarks.peers.recurrent import StepByStepNetwork
from attnbench.benchmarks.peers.serving import KINDS
from attnbench.benchmarks.results import PEER_SUITES, Settings
from attnbench.config import Config, ConfigError
from attnbench.config.root import config_from_dict
from attnbench.models.build import build_model
from attnbench.records.identity import config_to_dict
from attnbench.sweeps.plan import compose_run

Job = dict[str, Any]
Answers = Callable[[str, Job], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return compose_run([
        "model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.norm_placement=post",
        "model.tie_embeddings=all",
        "data.joint_vocabulary=true", "data.train_pairs=60", "data.val_pairs=3", "data.test_pairs=5",
        "data.batch_tokens=128", "trainer.max_steps=1000", "trainer.max_epochs=null", "trainer.accelerator=cpu",
        "callbacks.progress_bar=false", f"paths.cache={tmp_path_factory.mktemp('cache')}",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def sentences(config: Config, asked: Callable[..., Settings]) -> TranslationInputs:
    return TranslationInputs(config, asked())


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Every answer of a peer that is asked for a turn and for a profile, and then for nothing more."""

    def serve(module: str, job: Job) -> list[dict[str, Any]]:
        with (tmp_path / "answers").open("w+") as told:
            given = {"answers": os.dup(told.fileno()), "cores": None, "threads": torch.get_num_threads()}
            (tmp_path / "job.json").write_text(json.dumps(given | {"seconds": 0.0, "warmup": 1, "how": ""} | job))
            monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "job.json")])
            monkeypatch.setattr(sys, "stdin", io.StringIO("go\nprofile\n"))
            monkeypatch.setattr(os, "_exit", sys.exit)
            with pytest.raises(SystemExit, match="0"):
                importlib.import_module(f"attnbench.benchmarks.peers.{module}").main()
            told.seek(0)
            return [json.loads(line) for line in told]

    return serve


def check_turns(told: list[dict[str, Any]]) -> None:
    said, turn, profiled = told
    assert said["versions"]["torch"]
    assert turn["units"] > 0
    assert turn["peak_rss_mib"] > 0
    assert tuple(profiled["profile"]) == KINDS
    assert sum(profiled["profile"].values()) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(("module", "how"), [("nn_transformer", ""), ("ours", ""), ("ours", "bare")])
def test_sentences_are_learned_from_in_turns(
    sentences: TranslationInputs, answers: Answers, module: str, how: str
) -> None:
    check_turns(answers(module, sentences.job | {"what": "training", "how": how}))


def test_decoding_says_what_it_found(sentences: TranslationInputs, answers: Answers) -> None:
    told = answers("ours", sentences.job | {"what": "decoding", "warmup": 0, "beam_size": 2})
    check_turns(told)
    found = told[0]["hypotheses"]
    assert len(found) == sentences.job["sentences"]
    assert 0 <= sentences.compute_bleu(found) <= 100


@pytest.mark.parametrize("how", ["ours", "step_by_step"])
def test_recurrent_peers_take_turns(answers: Answers, how: str) -> None:
    chosen = compose_run(["model=bahdanau_d2l", "attention=additive", "model.d_embedding=4", "model.d_hidden=4"])
    size = {"d_hidden": 4, "depth": 2, "dropout": 0.1}
    job = {
        "config": config_to_dict(chosen),
        "model": size,
        "vocab": 9,
        "length": 3,
        "batch_size": 2,
        "lr": 0.1,
        "how": how,
    }
    check_turns(answers("recurrent", job))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_pictures_are_learned_from_in_turns(answers: Answers, precision: str) -> None:
    chosen = compose_run(["experiment=vit_synthetic_garments", f"trainer.precision={precision}"])
    job = {
        "config": config_to_dict(chosen),
        "image_size": 28,
        "batch_size": 3,
        "lr": 0.1,
        "clip": 1.0,
        "optimizer": "adamw",
    }
    check_turns(answers("vision", job | {"how": "ours"}))


def test_step_by_step_is_the_same_network() -> None:
    chosen = compose_run(["model=bahdanau_d2l", "attention=additive", "model.d_embedding=6", "model.d_hidden=6"])
    ours: Any = build_model(chosen, source_vocab=11, target_vocab=11).eval()
    theirs = StepByStepNetwork(11, 6, 2, 0.0).eval()
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        for stack in ("encoder", "decoder"):
            name = name.replace(f"{stack}.cells.layers.", f"{stack}.layers.")
            if name.startswith(f"{stack}.layers."):
                _, _, layer, gates = name.split(".")
                name = f"{stack}.{gates.removesuffix('0')}{layer}"
        part = name.rpartition("attention.score.")[2]
        state[part if part in state else name] = tensor * (ours.scale if "embedding" in name else 1)
    theirs.load_state_dict(state | {"output.bias": torch.zeros(11)})
    source_BS, target_BT = torch.randint(1, 11, (2, 3, 5)).unbind()
    torch.testing.assert_close(theirs(source_BS, target_BT), ours.project(ours(source_BS, target_BT).hidden))


def test_weights_of_another_model_are_refused(config: Config, asked: Callable[..., Settings], tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(
        ConfigError, match=rf"^--checkpoint={path}: expected model.ckpt of a run; .*no such checkpoint$"
    ):
        TranslationInputs(config, asked(checkpoint=str(path)))


def test_batches_by_hand_hold_every_sentence_once(sentences: TranslationInputs) -> None:
    corpus = Corpus(sentences.job["data"], "train")
    buckets = corpus.build_batches(40)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(len(corpus)))
    sides = (corpus.source, [ids[1:] for ids in corpus.target])
    assert all(pad_sentences([side[row] for row in rows], 0).size <= 40 for rows in buckets for side in sides)
    padded_BL = pad_sentences([np.array([5, 6]), np.array([7])], 0)
    assert padded_BL.tolist() == [[5, 6], [7, 0]]


def test_a_contender_is_a_process_of_its_own(sentences: TranslationInputs, asked: Callable[..., Settings]) -> None:
    notes: list[str] = []
    job = sentences.job | {"what": "training", "warmup": 1}
    group = PeerGroup("tiny", "target_tokens", job, asked(seconds=0.0), notes)
    rows = [group.build_case(Peer("by hand", "nn_transformer")), group.build_case(Peer("lost", "nowhere"))]
    by_hand, lost = measure_suite(peer_suites.SuitePlan("task", notes, rows, warmup=0), 1, lambda said: None)
    assert by_hand.error is None
    assert by_hand.baseline == "attnbench"
    assert {"target_tokens_per_sec_p50", "peak_rss_mib", "matmul_percent"} <= by_hand.values.keys()
    assert notes[-1].startswith("by hand: torch 2")
    assert lost.error is not None
    assert lost.error.startswith("RuntimeError: ended: ")
    assert "No module named attnbench.benchmarks.peers.nowhere" in lost.error


@pytest.mark.parametrize("suite", PEER_SUITES)
def test_every_row_has_its_script(suite: str, asked: Callable[..., Settings]) -> None:
    folder = Path(peer_suites.__file__).parent / "peers"
    for peer in peer_suites.PEERS[suite]:
        assert (folder / f"{peer.module}.py").is_file()
        assert peer.environment is None or peer.environment in peer_environments.list_environments()
    assert peer_suites.PEERS[suite][0].name == "attnbench"
    assert compose_peer_configs(suite, asked(data="synthetic_translation"))


def test_a_row_changes_its_own_config(config: Config) -> None:
    job = {"config": config_to_dict(config)}
    for peer in itertools.chain(*peer_suites.PEERS.values()):
        changed = config_to_dict(config_from_dict(build_peer_job(peer, job)["config"]))
        for key, value in peer.config_changes.items():
            group, name = key.split(".")
            assert changed[group].pop(name) == value != job["config"][group][name], peer.name
        assert all(changed[group].items() <= job["config"][group].items() for group in ("trainer", "attention"))
    with pytest.raises(KeyError, match="precison"):
        build_peer_job(Peer("", "", config_changes={"trainer.precison": "32-true"}), job)


def test_who_is_not_installed_says_how_to(
    asked: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = PeerGroup("", "x", {}, asked(), []).build_case(Peer("fairseq", "fairseq", "fairseq"))
    with pytest.raises(NotInstalledError, match=r"^attnbench bench peers install fairseq$"):
        entry.measure_repeat()
    (row,) = measure_suite(peer_suites.SuitePlan("", [], [entry], warmup=0), 1, lambda said: None)
    assert row.error == "not installed: attnbench bench peers install fairseq"
    with pytest.raises(ConfigError, match="expected some of fairseq, huggingface"):
        peer_environments.install_environments(["fairsek"])


def test_requirements_are_pinned_and_name_no_host() -> None:
    for name in peer_environments.list_environments():
        lines = (Path(peer_suites.__file__).parent / "peers" / "requirements" / f"{name}.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert pins
        assert all(line.count("==") == 1 and "/" not in line for line in pins)
