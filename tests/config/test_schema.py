"""The schema's own judgement: bounds, and pairs that cannot be."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from attnbench.config import Config, ConfigError, Fault, validate_config
from attnbench.config.fields import Bounds, bounded_field, find_faults
from attnbench.config.model import TransformerConfig
from attnbench.config.root import config_from_dict
from attnbench.records.identity import config_to_dict
from attnbench.sweeps.plan import compose_run


@dataclass
class Inner:
    depth: int = bounded_field(1, minimum=1)
    width: int | None = bounded_field(None, greater_than=0)

    def find_faults(self) -> Iterator[Fault]:
        if 10 % self.depth:
            yield Fault("depth", f"{self.depth}", "expected a divisor of 10")


@dataclass
class Outer:
    rate: float = bounded_field(0.5, minimum=0, less_than=1)
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(minimum=1), [1, 2], [0, 0.99, math.nan, math.inf]),
        (Bounds(greater_than=0), [1e-9], [0, -1, math.nan]),
        (Bounds(minimum=0, less_than=1), [0, 0.99], [1, -0.1, math.nan]),
        (Bounds(maximum=2), [2, -5], [2.1, math.nan]),
    ],
)
def test_bounds(bounds: Bounds, inside: list[float], outside: list[float]) -> None:
    assert all(bounds.contains(value) for value in inside)
    assert not any(bounds.contains(value) for value in outside)


def test_every_fault_is_found_with_its_full_key() -> None:
    wrong = Outer(rate=1.0, inner=Inner(depth=3, width=0))
    assert [str(fault) for fault in find_faults(wrong)] == [
        "rate=1.0: expected a number at least 0 and below 1",
        "inner.width=0: expected a number above 0",
    ]
    assert [fault.key for fault in find_faults(Outer(inner=Inner(depth=3)))] == ["inner.depth"]


def test_a_pair_is_not_judged_when_one_of_it_is_out_of_bounds() -> None:
    assert [fault.expected for fault in find_faults(Inner(depth=0))] == ["expected a number at least 1"]


def test_null_passes_where_it_is_allowed() -> None:
    assert not list(find_faults(Outer()))


DEFAULT = compose_run([])


def bounded(node: Any, prefix: str = "") -> Iterator[str]:
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            yield from bounded(value, f"{prefix}{item.name}.")
        elif item.metadata:
            yield prefix + item.name


@pytest.mark.parametrize("key", sorted(bounded(DEFAULT)))
def test_no_number_of_the_schema_takes_nan_or_minus_one(key: str) -> None:
    config: Any = copy.deepcopy(DEFAULT)
    *path, leaf = key.split(".")
    node = config
    for name in path:
        node = getattr(node, name)
    for value in (math.nan, -1):
        setattr(node, leaf, value)
        with pytest.raises(ConfigError) as caught:
            validate_config(config)
        assert key in {fault.key for fault in caught.value.faults}


def test_only_a_config_is_checked() -> None:
    with pytest.raises(TypeError, match="expected a composed Config"):
        validate_config({"seed": 1})


def test_a_record_of_an_unknown_family_or_key_is_refused() -> None:
    assert isinstance(DEFAULT.model, TransformerConfig)
    stored = config_to_dict(DEFAULT)
    stored["model"]["family"] = "perceiver"
    with pytest.raises(
        ConfigError, match=r"model.family=perceiver: expected one of cnn, mlp, recurrent, resnet18, transformer, vit"
    ):
        config_from_dict(stored)
    stored = config_to_dict(DEFAULT)
    stored["model"]["latents"] = 4
    with pytest.raises(ConfigError, match="latents"):
        config_from_dict(stored)


def test_a_fault_without_a_value_reads_well() -> None:
    assert str(Fault("model.depth", "3", "expected 2")) == "model.depth=3: expected 2"
    assert str(Fault("model.depth", "", "expected key=value")) == "model.depth: expected key=value"


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ("model=small", "model=small: expected one of recurrent, transformer for"),
        ("experiment=vit_fashion_mnist model=tiny", "model=tiny: expected one of cnn, mlp, resnet18, vit"),
        ("experiment=vit_fashion_mnist data=multi30k", "data=multi30k: expected one of fashion_mnist, image_folder"),
        ("task=classification", "data=synthetic_translation: expected one of fashion_mnist"),
        ("experiment=vit_fashion_mnist model.patch_size=5", "model.patch_size=5: expected a divisor of"),
        ("experiment=vit_fashion_mnist position=sinusoidal model.d_model=30 model.num_heads=3",
         "model.d_model=30: expected a multiple of 4: position=sinusoidal"),
        ("experiment=vit_fashion_mnist data.crop_padding=28", "data.crop_padding=28: expected less than"),
        (
            "model=luong model.bidirectional=true model.bridge=linear attention.score=dot",
            "attention.score=dot: expected one of general, additive, concat, uniform: with model.bidirectional=true",
        ),
        ("model=luong data.joint_vocabulary=false",
         "model.tie_embeddings=all: expected none or target: data.joint_vocabulary"),
        ("model=rnn model.input_feeding=true",
         "model.input_feeding=true: expected false for model.decoder_context=fixed"),
        ("experiment=vit_fashion_mnist metrics.tokenize=zh", "metrics.tokenize=zh: expected auto: task=classification"),
        ("metrics.tokenize=ja", "metrics.tokenize=ja: expected one of 13a"),
        ("task.monitor=accuracy", "task.monitor=accuracy: expected one of bleu, chrf, loss"),
        ("experiment=vit_fashion_mnist model=resnet18 data.batch_size=1",
         "data.batch_size=1: expected at least 2, two a device: batch norm has no variance of one image"),
        ("experiment=vit_fashion_mnist model=resnet18 data.batch_size=3 trainer.devices=2",
         "data.batch_size=3: expected at least 4, two a device"),
        ("experiment=vit_fashion_mnist model=resnet18 trainer.micro_batch_size=1",
         "trainer.micro_batch_size=1: expected at"),
        ("experiment=vit_fashion_mnist model=cnn model.widths=[8,8,8] data.image_size=4 data.batch_size=1",
         "data.batch_size=1: expected at least 2"),
        ("experiment=vit_fashion_mnist model=cnn model.widths=[8,0]", "model.widths=[8,0]: expected numbers"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(overrides: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(overrides.split())
    assert any(str(found).startswith(fault) for found in caught.value.faults), str(caught.value)


def test_the_error_carries_every_fault() -> None:
    faults = [Fault("a", "1", "expected 2"), Fault("b", "1", "expected 2")]
    error = ConfigError(faults)
    assert error.faults == faults
    assert str(error) == "a=1: expected 2\nb=1: expected 2"


def test_the_defaults_of_the_dataclasses_alone_are_not_a_run() -> None:
    with pytest.raises(ConfigError, match=r"model.family=none: not to be set by hand: choose model=<name>"):
        validate_config(Config())


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("logger.project=\"a/b:c\"", "logger.project=\"a/b:c\": expected 1 to 128 characters, none of # % / : ? \\"),
        ("logger.entity=\"a/b\"", "logger.entity=\"a/b\": expected 1 to 128 characters"),
        ("logger.project=" + "x" * 129, "logger.project="),
        ("logger.project=''", "logger.project=''"),
        (f"logger.tags=[{'x' * 65}]", "expected tags of 1 to 64 characters"),
        ("logger.tags=['']", "expected tags of 1 to 64 characters"),
    ],
)  # fmt: skip
def test_what_wandb_would_refuse_is_a_fault_of_the_config(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        compose_run([override])
    assert said in str(found.value)
    compose_run([override, "logger=none"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "expected a number at least 0 and at most 4294967295"),
        ("seed=4294967296", "expected a number at least 0 and at most 4294967295"),
        ("seed=100000000000000000000000", "expected a number at least 0 and at most 4294967295"),
        ("trainer.max_minutes=inf", "expected a number above 0 and at most 527040"),
        ("trainer.max_minutes=1e308", "expected a number above 0 and at most 527040"),
        ("trainer.save_every_minutes=inf", "expected a number above 0 and at most 527040"),
        ("trainer.devices=1000", "expected a number at least 1 and at most 64"),
        ("trainer.num_threads=100000", "expected a number at least 1 and at most 1024"),
        ("trainer.max_steps=100000000000000000000", "expected a number at most 2147483647"),
        ("sweep.lease_seconds=inf", "expected a number above 0 and at most 86400"),
        ("sweep.hang_timeout_minutes=inf", "expected a number above 0 and at most 527040"),
        ("task.length_penalty=1e308", "expected a number at least 0 and at most 5"),
        ("task.max_ratio=inf", "expected a number above 0 and at most 100"),
        ("task.max_extra=100000000000000000000", "expected a number at least 1 and at most 10000"),
        ("task.beam_size=1000000", "expected a number at least 1 and at most 1000"),
        ("task.val_beam_size=1000000", "expected a number at least 1 and at most 1000"),
        ("data.vocab_size=100000000000000000000", "expected a number at least 8 and at most 1000000"),
        ("data.nouns=100000000", "expected a number at least 1 and at most 10000"),
        ("model.d_model=1000000000000", "expected a number at least 1 and at most 65536"),
        ("model.depth=1000000", "expected a number at least 1 and at most 1000"),
        ("optim.lr=inf", "expected a number above 0 and finite"),
        ("optim.weight_decay=inf", "expected a number at least 0 and finite"),
        ("name=" + "a" * 300, "expected at most 128 characters and 255 bytes, not 300 characters"),
        ("sweep.name=" + "a" * 5000, "expected at most 128 characters and 255 bytes, not 5000 characters"),
        ("sweep.name='" + "é" * 128 + "'", "expected at most 128 characters and 255 bytes"),
        ("sweep.name='~'", "expected a folder name that does not begin with ~ (a home folder) or - (an option)"),
        ("sweep.name='-x'", "expected a folder name that does not begin with ~ (a home folder) or - (an option)"),
        ("sweep.table='../x'", "expected the name of a folder in experiments/"),
        ("paths.output='~/runs'", "expected a whole path: ~ stands for the home folder only where the shell sees it"),
        ("data=files data.train_source='~/a' data.val_source=b", "expected a whole path"),
        ("logger.tags=${name}", "expected a list, as in [a,b]"),
        ("paths=${name}", "expected keys with values"),
        ("experiment=vit_d2l model=cnn model.widths=${..seed}", "expected a list, as in [a,b]"),
    ],
)  # fmt: skip
def test_a_value_that_a_run_would_fail_of_is_refused_in_a_sentence(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(override.split())
    assert all(fault.expected.startswith(expected) for fault in caught.value.faults), str(caught.value)
    assert all(len(str(fault)) < 300 for fault in caught.value.faults)


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\x00b", "a\u2028b", "a\udc80b"], ids=ascii)
@pytest.mark.parametrize("key", ["name", "sweep.name", "logger.project", "paths.output"])
def test_text_that_a_terminal_acts_on_is_refused(key: str, text: str) -> None:
    config: Any = copy.deepcopy(DEFAULT)
    *groups, leaf = key.split(".")
    setattr(getattr(config, groups[0]) if groups else config, leaf, text)
    with pytest.raises(ConfigError) as caught:
        validate_config(config)
    assert f"{key}=" in str(caught.value)
    assert "expected text without control characters" in str(caught.value)
    assert not set(str(caught.value)) & set("\x1b\x00\u2028\udc80")


def test_a_pair_is_judged_beside_a_number_that_is_out_of_bounds() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(["model.num_heads=0", "position=rotary", "attention.score=additive"])
    assert [fault.key for fault in caught.value.faults] == ["model.num_heads", "attention.score"]
