"""Train one run, or with -m every combination of a sweep: python -m attnbench.train [-m] key=value ..."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnbench.config import ConfigError, Fault, check
from attnbench.record import PLAN, Kind, Plan, RecordError, Status, read_plan, write
from attnbench.report.tables import check_layout, write_tables
from attnbench.sweep.arguments import faults_of_arguments, parse_arguments, to_argv
from attnbench.sweep.children import Job
from attnbench.sweep.compose import CONFIG_NAME, CONFIG_PATH, VERSION_BASE, register
from attnbench.sweep.hydra_job import place
from attnbench.sweep.lease import Holder, take
from attnbench.sweep.plan import check_choices, expand, help_text, is_multirun, sweep_folder
from attnbench.sweep.ranks import fault_of, rank, started
from attnbench.sweep.records import error_of, is_finished, last_record, tidy
from attnbench.sweep.signals import exit_on_sigterm
from attnbench.sweep.supervise import supervise
from attnbench.sweep.telling import Outcome, titles
from attnbench.tracking.summary import log_summary


def main() -> int:
    """Run the command; returns the exit status: 2 for what a user said wrongly, 1 if a run failed."""
    try:
        return command()
    except KeyboardInterrupt:
        _complain("stopped by SIGINT; the same command goes on from there")
        return 128 + signal.SIGINT


def command() -> int:
    """What `main` does, where nobody interrupts it."""
    arguments = parse_arguments()
    app = hydra.main(version_base=VERSION_BASE, config_path=CONFIG_PATH, config_name=CONFIG_NAME)
    register()
    wrong = list(faults_of_arguments(arguments))
    if wrong:
        for fault in wrong:
            _complain(fault)
        return 2
    try:
        if arguments.cfg or arguments.info:
            check_choices(arguments.overrides, arguments.config_dir)
        if _only_asks(arguments):
            sys.argv[1:] = to_argv(arguments)
            app(run)()
            return 0
        if arguments.help:
            print(help_text(arguments.overrides, arguments.config_dir))
            return 0
        arguments.multirun = is_multirun(arguments.overrides, arguments.multirun, arguments.config_dir)
        sys.argv[1:] = to_argv(arguments)
        plan = expand(arguments.overrides, multirun=arguments.multirun, config_dir=arguments.config_dir)
    except ConfigError as error:
        for fault in error.faults:
            _complain(fault)
        return 2
    in_turn = "hydra/launcher=basic" in arguments.overrides
    asked = {(run.config["trainer"]["devices"], run.config["trainer"]["num_nodes"]) for run in plan.runs}
    refused = [found for each in sorted(asked) if (found := fault_of(*each, multirun=arguments.multirun)) is not None]
    if in_turn and any(devices > 1 for devices, _ in asked):
        refused.append(
            Fault("hydra/launcher", "basic", "runs are in this process, and so have one device: leave it out")
        )
    refused += layout_faults(plan, Path("experiments"))
    if refused:
        for found in refused:
            _complain(found)
        return 2
    if not arguments.multirun:
        app(run_alone)()
        return 0
    folder = sweep_folder(plan.runs[0].config)
    try:
        write(plan, folder)
    except OSError as error:
        _complain(error_of(error, folder)["message"])
        return 2
    print(f"sweep {plan.sweep}: {len(plan.runs)} runs in {folder}", flush=True)
    app(run_in_turn if in_turn else run)()
    return conclude(read_plan(folder / PLAN), folder)  # which a search has added to


def layout_faults(plan: Plan, experiments: Path) -> list[Fault]:
    """Return the fault of a `sweep.table` whose layout is not there: known now, not when all runs have ended."""
    found = []
    for name in dict.fromkeys(run.config["sweep"]["table"] for run in plan.runs):
        try:
            if name is not None:
                check_layout(experiments, name)
        except RecordError as error:
            found.append(Fault("sweep.table", name, str(error)))
    return found


def run(cfg: DictConfig) -> None:
    """Hydra's task function: one run, in the folder that Hydra made for it."""
    from attnbench.tasks.run import execute  # torch comes with it

    hydra_config = HydraConfig.get()
    execute(check(cfg), Path(hydra_config.runtime.output_dir), _overrides(hydra_config))


def _overrides(hydra: HydraConf) -> list[str]:
    """Return a run's overrides as typed: `optim.lr=${..seed}` is text here, not an interpolation of this list."""
    lines = OmegaConf.to_container(cast("Any", hydra.overrides.task), resolve=False)
    return [str(line) for line in cast("list[Any]", lines)]


def run_alone(cfg: DictConfig) -> None:
    """The same for a single run in this process: what a person did is told in a line, not in a traceback."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if check(cfg).trainer.devices > 1 and started() == 1:
        run_on_ranks(cfg, folder, _overrides(hydra_config))
        return
    exit_on_sigterm()
    try:
        if is_finished(folder):
            print(f"finished before: {folder}\nTo run it anew, delete that folder.")
            return
        with _lease(folder, check(cfg).sweep.lease_seconds):
            run(cfg)
    except KeyboardInterrupt:
        raise
    except SystemExit as error:  # ours, or Lightning's, whose status says success
        _complain("stopped by SIGTERM; the same command goes on from there")
        raise SystemExit(128 + signal.SIGTERM) from error
    except BaseException as error:
        _explain(error, folder)


def run_in_turn(cfg: DictConfig) -> None:
    """The same where Hydra's own launcher has every run in this process: what one does not survive, none does."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    exit_on_sigterm()
    try:
        if is_finished(folder):
            print(f"{folder.name}: skipped: finished", flush=True)
            return
        with _lease(folder, check(cfg).sweep.lease_seconds):
            run(cfg)
    except Exception as error:  # it is in the record, and told of at the end
        said = error_of(error, folder)
        if said["kind"] == Kind.interrupted:
            raise KeyboardInterrupt from error
        print(f"{folder.name}: failed: {said['type']}: {said['message']}", flush=True)


def run_on_ranks(cfg: DictConfig, folder: Path, overrides: list[str]) -> None:
    """A single run on several devices: a sweep of one, whose supervisor starts a process for each."""
    job = Job("", overrides, check(cfg), folder, run_rank, (cfg, folder, overrides))
    if supervise([job], 1, preload=("attnbench.tasks.run",)) == [Outcome.failed]:
        raise SystemExit(1)


def run_rank(cfg: DictConfig, folder: Path, overrides: list[str], added: list[str]) -> None:
    """One rank of it, in a process of its own."""
    from attnbench.tasks.run import execute

    register()
    place(cfg, added)
    execute(check(cfg), folder, [*overrides, *added])


@contextlib.contextmanager
def _lease(folder: Path, term: float) -> Iterator[None]:
    """Nobody else in a run's folder meanwhile; of several ranks, the first one sees to it."""
    if rank() > 0:
        yield
        return
    lease = take(folder, term)
    if isinstance(lease, Holder):
        raise RecordError(f"{folder}: running elsewhere: {lease}")
    try:
        tidy(folder)
        with lease.kept():
            yield
    finally:
        lease.release()


def _explain(error: BaseException, folder: Path) -> NoReturn:
    """End the command with a sentence where one says all; other errors show where they come from."""
    said = error_of(error, folder)
    statuses = {Kind.refused: 2, Kind.interrupted: 128 + signal.SIGINT, Kind.raised: None}
    status = statuses.get(Kind(said["kind"]), 1)
    if status is None:
        raise error
    way_on = "; the same command goes on from there" if said["kind"] == Kind.interrupted else ""
    _complain(said["message"] + way_on)
    raise SystemExit(status) from error


def conclude(plan: Plan, folder: Path) -> int:
    """Print the table of a sweep and what is missing from it; returns the exit status."""
    status = 0
    try:
        print(f"\n{write_tables(folder, Path('experiments'))}", flush=True)
        log_summary(plan, folder)
    except (RecordError, OSError) as error:
        _complain(error_of(error, folder)["message"])
        status = 2
    for planned, title in zip(plan.runs, titles([run.overrides for run in plan.runs]), strict=True):
        try:
            record = last_record(folder / planned.run_id)
        except RecordError as error:
            _complain(error)
            status = 1
            continue
        if record is None or (record.status is not Status.finished and record.state != Kind.pruned):
            why = record.error["message"] if record is not None and record.error else "no record"
            state = record.state if record is not None else "not run"
            _complain(f"{state}: {planned.run_id} {title}: {why}")
            status = 1
    return status


def _only_asks(arguments: argparse.Namespace) -> bool:
    """Whether the command asks Hydra for something instead of running."""
    asked = ("hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")
    return any(getattr(arguments, name) not in (None, False) for name in asked)


def _complain(what: object) -> None:
    print(f"attnbench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
