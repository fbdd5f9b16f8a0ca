"""Command line of `attnbench.train`: reads Hydra's options, and refuses those that would have no effect."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser

from attnbench.config import Fault
from attnbench.config.data import FilesConfig
from attnbench.config.fields import is_path_field
from attnbench.config.images import ImageFolderConfig
from attnbench.config.tracking import PathsConfig
from attnbench.sweeps.compose import CONFIG_NAME

_GROUPS = (("paths", PathsConfig), ("data", FilesConfig), ("data", ImageFolderConfig))
_PATH_KEYS = {
    f"{group}.{field.name}" for group, kind in _GROUPS for field in dataclasses.fields(kind) if is_path_field(field)
}
_DISPLAY_OPTIONS = ("cfg", "info", "hydra_help", "shell_completion")
_SAFE_PATH_PATTERN = re.compile(r"[\w/.+-]+")  # text that Hydra reads without quotes


def parse_arguments(command: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; options may stand before, between and after overrides.

    Args:
        command: arguments after the program's name; None: those of this process.

    Returns:
        The namespace that Hydra's parser returns, with `~` expanded in overrides of paths.
    """
    arguments = get_args_parser().parse_intermixed_args(command)
    arguments.overrides = [expand_home(override) for override in arguments.overrides]
    return arguments


def build_argv(arguments: argparse.Namespace) -> list[str]:
    """Build a command line from parsed arguments, in the order that Hydra's parser needs: overrides last."""
    options: list[str] = []
    for action in get_args_parser()._actions:
        value = getattr(arguments, action.dest, None)
        if not action.option_strings or value in (None, False, argparse.SUPPRESS):
            continue
        options += [action.option_strings[0]] if value is True else [action.option_strings[0], str(value)]
    return [*options, *arguments.overrides]


def find_argument_faults(arguments: argparse.Namespace) -> Iterator[Fault]:
    """Yield a fault for each option that would have no effect, or another effect than its name says."""
    again = "to run a saved config again, give the lines of its overrides.yaml"
    name, folder = arguments.config_name, arguments.config_dir
    if name not in (None, CONFIG_NAME):
        expected = "put it into experiment/<name>.yaml of a folder for --config-dir, and give experiment=<name>"
        yield Fault("--config-name", name, f"runs are composed from attnbench's own config; {expected}; {again}")
    if arguments.config_path is not None:
        expected = "runs are composed from attnbench's own config: a folder of your own groups goes to --config-dir"
        yield Fault("--config-path", arguments.config_path, expected)
    if folder is not None and (Path(folder) / f"{CONFIG_NAME}.yaml").exists():
        expected = f"its {CONFIG_NAME}.yaml would not be read: attnbench has a config of that name; {again}"
        yield Fault("--config-dir", folder, expected)
    shown = [option for option in _DISPLAY_OPTIONS if getattr(arguments, option) not in (None, False)]
    if shown and (arguments.multirun or arguments.run):
        mode = "--multirun" if arguments.multirun else "--run"
        option = f"--{shown[0].replace('_', '-')}"
        yield Fault(mode, "", f"{option} runs nothing and shows one config: leave {mode} out")
    elif arguments.multirun and arguments.run:
        yield Fault("--multirun", "", "expected one of --multirun and --run")
    if len(shown) > 1:
        yield Fault(f"--{shown[1].replace('_', '-')}", "", f"expected one of it and --{shown[0].replace('_', '-')}")
    if arguments.resolve and arguments.cfg is None:
        yield Fault("--resolve", "", "expected with --cfg")
    if arguments.package is not None and arguments.cfg is None:
        yield Fault("--package", arguments.package, "expected with --cfg")


def expand_home(override: str) -> str:
    """Return an override of a path with `~` expanded; shells expand it only at the start of a word."""
    key, equals, given = override.partition("=")
    quote = given[:1] if given[:1] in ("'", '"') and given[-1:] == given[:1] and len(given) > 1 else ""
    text = given[1:-1] if quote else given
    if not equals or key not in _PATH_KEYS or "," in text or not (text == "~" or text.startswith("~/")):
        return override
    path = f"{Path.home()}{text[1:]}"
    quote = quote or ("" if _SAFE_PATH_PATTERN.fullmatch(path) else "'")
    return f"{key}={quote}{path}{quote}"
