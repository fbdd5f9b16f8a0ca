"""Command that trains one run, or with -m every combination of a sweep: attnbench train [-m] key=value ..."""

from __future__ import annotations

if __name__ == "__main__":
    from attnbench.process import early  # noqa: F401  # before imports that take half a second

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnbench.config import ConfigError, Fault
from attnbench.config.folder import CONFIG_FOLDER
from attnbench.data.checksums import validate_config
from attnbench.process import interrupts
from attnbench.process.output import exit_process, make_command, print_error, report_interruption
from attnbench.records.lifecycle import (
    build_exception_error,
    create_run_folder,
    describe_folder_error,
    is_finished,
    load_previous_record,
    remove_temporary_files,
)
from attnbench.records.ranks import check_rank_count, get_rank, get_world_size
from attnbench.records.record import (
    PLAN_FILE,
    FailureReason,
    Plan,
    Record,
    RecordError,
    Status,
    read_plan,
    write_record,
)
from attnbench.reporting.tables import check_layout, write_tables
from attnbench.sweeps.command_line import build_argv, find_argument_faults, parse_arguments
from attnbench.sweeps.compose import CONFIG_NAME, VERSION_BASE, register_schema
from attnbench.sweeps.display import Outcome, build_run_labels
from attnbench.sweeps.hydra_job import apply_placement
from attnbench.sweeps.lease import Lease, LeaseHolder, acquire_lease, remove_expired_lease
from attnbench.sweeps.plan import build_plan, check_choices, decide_multirun, format_help, get_sweep_folder
from attnbench.sweeps.processes import Job
from attnbench.sweeps.supervisor import supervise
from attnbench.tracking.summary import log_summary


@make_command(is_output_result=False)
def main() -> int:
    """Run the command and return its exit status: 2 for a refused command, 1 if a run failed, 128 + signal."""
    arguments = parse_arguments()
    app = hydra.main(version_base=VERSION_BASE, config_path=str(CONFIG_FOLDER), config_name=CONFIG_NAME)
    register_schema()
    try:
        if wrong := list(find_argument_faults(arguments)):
            raise ConfigError(wrong)
        if arguments.cfg or arguments.info:
            check_choices(arguments.overrides, arguments.config_dir)
        if _is_display_only(arguments):
            sys.argv[1:] = build_argv(arguments)
            app(run_task)()
            return 0
        if arguments.help:
            print(format_help(arguments.overrides, arguments.config_dir))
            return 0
        os.environ["HYDRA_FULL_ERROR"] = "1"  # what goes wrong in Hydra is raised, and reported in a sentence here
        arguments.multirun = decide_multirun(arguments.overrides, arguments.multirun, arguments.config_dir)
        sys.argv[1:] = build_argv(arguments)
        plan = build_plan(arguments.overrides, is_multirun=arguments.multirun, config_dir=arguments.config_dir)
        if refused := [*_find_placement_faults(plan, arguments), *find_layout_faults(plan, Path("experiments"))]:
            raise ConfigError(refused)
    except ConfigError as error:
        for fault in error.faults:
            print_error(fault)
        return 2
    return _run_plan(app, plan, arguments)


def _find_placement_faults(plan: Plan, arguments: argparse.Namespace) -> list[Fault]:
    """Return the faults of runs that cannot get the devices that they ask for."""
    requested = {(run.config["trainer"]["devices"], run.config["trainer"]["num_nodes"]) for run in plan.runs}
    refused = [
        found
        for each in sorted(requested)
        if (found := check_rank_count(*each, is_multirun=arguments.multirun)) is not None
    ]
    if _is_sequential(arguments) and any(devices > 1 for devices, _ in requested):
        expected = "runs are in this process, and so have one device: leave it out"
        refused.append(Fault("hydra/launcher", "basic", expected))
    return refused


def _is_sequential(arguments: argparse.Namespace) -> bool:
    """Return True if runs are executed one after the other in this process."""
    return "hydra/launcher=basic" in arguments.overrides


def _run_plan(app: Callable[[Callable[[DictConfig], None]], Callable[[], Any]], plan: Plan, arguments: Any) -> int:
    """Run the planned runs and return the exit status."""
    folder = get_sweep_folder(plan.runs[0].config)
    try:
        if arguments.multirun:
            write_record(plan, folder)
            print(f"sweep {plan.sweep}: {len(plan.runs)} runs in {folder}", flush=True)
        else:
            create_run_folder(folder / plan.runs[0].run_id)
    except OSError as error:
        print_error(describe_folder_error(error, folder))
        return 2
    try:
        app((run_sequentially if _is_sequential(arguments) else run_task) if arguments.multirun else run_single)()
    except Exception as error:  # Hydra's own, such as a log that cannot be written; a run's is in its record
        if build_exception_error(error, folder)["kind"] == FailureReason.raised:
            traceback.print_exception(error)
            return 1
        print_error(build_exception_error(error, folder)["message"])
        return 2 if build_exception_error(error, folder)["kind"] == FailureReason.refused else 1
    return (
        finish_sweep(read_plan(folder / PLAN_FILE), folder) if arguments.multirun else 0
    )  # a search has added to the plan


def find_layout_faults(plan: Plan, experiments: Path) -> list[Fault]:
    """Return the fault of a `sweep.table` without a layout file, before any run starts."""
    found = []
    for name in dict.fromkeys(run.config["sweep"]["table"] for run in plan.runs):
        try:
            if name is not None:
                check_layout(experiments, name)
        except RecordError as error:
            found.append(Fault("sweep.table", name, str(error)))
    return found


def run_task(cfg: DictConfig) -> None:
    """Run one job in the folder that Hydra created; Hydra's task function."""
    from attnbench.process import lightning_import  # noqa: F401  # before anything else that imports Lightning
    from attnbench.training.runner import run_training  # imports torch

    hydra_config = HydraConfig.get()
    run_training(validate_config(cfg), Path(hydra_config.runtime.output_dir), _get_typed_overrides(hydra_config))


def _get_typed_overrides(hydra: HydraConf) -> list[str]:
    """Return a run's overrides as typed: `optim.lr=${..seed}` is text here, not an interpolation."""
    lines = OmegaConf.to_container(cast("Any", hydra.overrides.task), resolve=False)
    return [str(line) for line in cast("list[Any]", lines)]


def run_single(cfg: DictConfig) -> None:
    """Run a single run in this process; user errors are printed as one line, without a traceback."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if validate_config(cfg).trainer.devices > 1 and get_world_size() == 1:
        run_on_devices(cfg, folder, _get_typed_overrides(hydra_config))
        return
    try:
        if is_finished(folder):
            remove_expired_lease(folder)
            print(f"finished before: {folder}\nTo run it again, delete that folder.")
            return
        with _hold_lease(folder, validate_config(cfg).sweep.lease_seconds):
            run_task(cfg)
    except BaseException as error:
        _exit_with_message(error, folder)


def run_sequentially(cfg: DictConfig) -> None:
    """Run one of several runs in this process, for Hydra's basic launcher; a crash ends all of them."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    interrupts.reset_state()
    interrupts.raise_if_requested()  # a signal that came when the run before was over
    try:
        if is_finished(folder):
            print(f"{folder.name}: skipped: finished", flush=True)
            return
        with _hold_lease(folder, validate_config(cfg).sweep.lease_seconds):
            run_task(cfg)
    except Exception as error:  # it is in the record, and reported at the end
        error_fields = build_exception_error(error, folder)
        if error_fields["kind"] == FailureReason.interrupted:
            raise interrupts.find_interruption(error) from error
        print(f"{folder.name}: failed: {error_fields['type']}: {error_fields['message']}", flush=True)


def run_on_devices(cfg: DictConfig, folder: Path, overrides: list[str]) -> None:
    """Run a single run on several devices: a sweep with one run, whose supervisor starts one process for each rank."""
    job = Job("", overrides, validate_config(cfg), folder, run_rank, (cfg, folder, overrides))
    outcomes = supervise([job], 1, preload=("attnbench.process.lightning_import", "attnbench.training.runner"))
    if outcomes == [Outcome.failed]:
        raise SystemExit(1)
    if outcomes == [Outcome.interrupted]:  # one of its ranks got a signal, and all have stopped
        record = load_previous_record(folder)
        reason = record.error["message"] if record is not None and record.error else ""
        number = interrupts.parse_signal_number(reason) or signal.SIGTERM
        print_error(f"{reason}; the same command continues from there")
        interrupts.raise_interrupted(number, is_reported=True)


def run_rank(cfg: DictConfig, folder: Path, overrides: list[str], added: list[str]) -> None:
    """Run one rank in its own process."""
    from attnbench.process import lightning_import  # noqa: F401
    from attnbench.training.runner import run_training

    register_schema()
    apply_placement(cfg, added)
    run_training(validate_config(cfg), folder, [*overrides, *added])


@contextlib.contextmanager
def _hold_lease(folder: Path, term: float) -> Iterator[None]:
    """Hold the lease on a run's folder inside the context; of several ranks, only rank 0 does."""
    if get_rank() > 0:
        yield
        return
    lease: Lease | LeaseHolder | None = None
    try:
        with interrupts.delay_signals():
            lease = acquire_lease(folder, term)
        if isinstance(lease, LeaseHolder):
            raise RecordError(f"{folder}: running elsewhere: {lease}")
        remove_temporary_files(folder)
        with lease.keep_renewed():
            yield
    finally:
        interrupts.ignore_signals()
        if isinstance(lease, Lease):
            lease.release()


def _exit_with_message(error: BaseException, folder: Path) -> NoReturn:
    """Exit with one sentence if it explains the error, and with a traceback otherwise."""
    reason = interrupts.find_interruption(error)
    if isinstance(reason, interrupts.Interrupted):
        raise SystemExit(report_interruption(reason)) from None
    error_fields = build_exception_error(error, folder)
    status = {FailureReason.refused: 2, FailureReason.raised: None}.get(FailureReason(error_fields["kind"]), 1)
    if status is None:
        raise error
    print_error(error_fields["message"])
    raise SystemExit(status) from error


def finish_sweep(plan: Plan, folder: Path) -> int:
    """Print the table of a sweep and the missing runs, and return the exit status."""
    status = 0
    try:
        print(f"\n{write_tables(folder, Path('experiments'))}", flush=True)
        log_summary(plan, folder)
    except (RecordError, OSError) as error:
        print_error(build_exception_error(error, folder)["message"])
        status = 2
    for planned, title in zip(plan.runs, build_run_labels([run.overrides for run in plan.runs]), strict=True):
        try:
            record = load_previous_record(folder / planned.run_id)
        except RecordError as error:
            print_error(error)
            status = 1
            continue
        if planned.is_tuning and record is not None and record.status_label == FailureReason.diverged:
            continue  # such a candidate is not chosen
        if record is None or (record.status is not Status.finished and record.status_label != FailureReason.pruned):
            print_error(f"{_describe_state(record)[0]}: {planned.run_id} {title}: {_describe_state(record)[1]}")
            status = 1
    return status


def _is_display_only(arguments: argparse.Namespace) -> bool:
    """Return True if the command only displays something (help, config) and runs nothing."""
    requested = ("hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")
    return any(getattr(arguments, name) not in (None, False) for name in requested)


def _describe_state(record: Record | None) -> tuple[str, str]:
    """Return the state of an unfinished run, as one word and as a sentence."""
    if record is None:
        return "not run", "it has no record"
    if record.status is Status.running:  # here no more: all processes of this command have ended
        return "cut off", "how it ended could not be written to its record; the same command continues"
    return record.status_label, (record.error or {}).get("message", "it gave no reason")


if __name__ == "__main__":
    exit_process(main())
