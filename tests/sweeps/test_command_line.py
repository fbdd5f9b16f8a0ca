"""Hydra's options: each does what it says, wherever it stands, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.sweeps.command_line import build_argv, expand_home, find_argument_faults, parse_arguments
from attnbench.sweeps.plan import build_plan, check_choices, decide_multirun


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("seed=1 -m model.depth=1,2", "--multirun seed=1 model.depth=1,2"),
        ("-m seed=1 model.depth=1,2", "--multirun seed=1 model.depth=1,2"),
        (
            "seed=1 --config-dir my a=1 --cfg job -p model b=2",
            "--cfg job --package model --config-dir my seed=1 a=1 b=2",
        ),
        ("seed=1", "seed=1"),
        ("", ""),
    ],
)
def test_options_may_stand_between_overrides(command: str, argv: str) -> None:
    assert build_argv(parse_arguments(command.split())) == argv.split()
    assert vars(parse_arguments(argv.split())) == vars(parse_arguments(command.split()))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("-cn saved", "--config-name=saved: runs are composed from attnbench's own config; put it into experiment/"),
        ("-cd . -cn other --cfg job", "--config-name=other: runs are composed from"),
        ("-cp conf", "--config-path=conf: runs are composed from"),
        ("-m seed=1,2 --cfg job", "--multirun: --cfg runs nothing and shows one config: leave --multirun out"),
        ("--run --info defaults", "--run: --info runs nothing and shows one config: leave --run out"),
        ("-m --run", "--multirun: expected one of --multirun and --run"),
        ("--resolve", "--resolve: expected with --cfg"),
        ("-p model", "--package=model: expected with --cfg"),
    ],
)
def test_an_option_without_an_effect_is_refused(command: str, expected: str) -> None:
    (fault,) = find_argument_faults(parse_arguments(command.split()))
    assert str(fault).startswith(expected)


@pytest.mark.parametrize("command", ["-m seed=1,2", "--cfg job -p model --resolve", "-cd . seed=1", "-cn config"])
def test_other_options_are_not(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not list(find_argument_faults(parse_arguments(command.split())))


def test_a_saved_config_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    for command in (["-cd", str(tmp_path)], ["-cd", str(tmp_path), "-cn", "config"]):
        (fault,) = find_argument_faults(parse_arguments(command))
        assert "its config.yaml would not be read" in str(fault)
        assert "give the lines of its overrides.yaml" in str(fault)


def test_a_home_folder_is_expanded_where_the_shell_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand_home("paths.output=~/runs") == "paths.output=/home/ada/runs"
    assert expand_home('paths.output="~/my runs"') == 'paths.output="/home/ada/my runs"'
    assert expand_home("data.train_source='~/a.en'") == "data.train_source='/home/ada/a.en'"
    assert expand_home("paths.data=~") == "paths.data=/home/ada"
    for other in ("name=~/x", "paths.output=a~/b", "~seed", "paths.output=~ada/x", "paths.output=~/a,~/b"):
        assert expand_home(other) == other
    assert parse_arguments(["paths.output=~/runs"]).overrides == ["paths.output=/home/ada/runs"]
    assert build_plan(parse_arguments(["paths.output=~/runs"]).overrides, is_multirun=False)


def test_hydra_mode_decides_as_the_option_does() -> None:
    assert decide_multirun(["hydra.mode=MULTIRUN", "seed=1,2"], False)
    assert decide_multirun(["seed=1,2"], True)
    assert not decide_multirun(["seed=1"], False)
    assert not decide_multirun(["hydra.mode=RUN"], False)
    with pytest.raises(ConfigError, match=r"hydra\.mode=RUN: expected MULTIRUN or nothing beside --multirun"):
        decide_multirun(["hydra.mode=RUN"], True)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("sweep.name=2024_01_01", "20240101"),
        ("sweep.name=1e3", "1000.0"),
        ("sweep.name=1.50", "1.5"),
        ("sweep.name=true", "True"),
        ("name=1e3,2e3", "1000.0"),
        ("logger.tags=[1_0,a]", "10"),
    ],
)
def test_text_that_would_become_a_number_is_refused(override: str, read: str) -> None:
    for multirun in (True, "," in override):
        with pytest.raises(ConfigError) as caught:
            build_plan([override], is_multirun=multirun)
        assert str(caught.value).startswith(f"{override}: {read} is what is read: quote what is text")
    if "," not in override:
        with pytest.raises(ConfigError):
            check_choices([override])


@pytest.mark.parametrize("name", ["no", "12", "007", "1.5", '"2024_01_01"', "'1e3'", "v1.0", "null_model"])
def test_text_stays_as_it_is_typed(name: str) -> None:
    for multirun in (True, False):
        assert build_plan([f"sweep.name={name}"], is_multirun=multirun).sweep == name.strip("'\"")
