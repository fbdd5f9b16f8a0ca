"""Command that says what a sweep will take before it runs: `attnbench plan sweep=heads seed=1,2,3`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from attnbench.config import ConfigError
from attnbench.metrics.statistics import compute_detectable_difference
from attnbench.process.output import exit_process, make_command
from attnbench.records.record import Plan, RecordError
from attnbench.sweeps.display import format_duration
from attnbench.sweeps.estimate import SweepCost, TimingError, estimate_sweep
from attnbench.sweeps.plan import build_plan, list_settings
from attnbench.sweeps.stages import count_later_runs
from attnbench.sweeps.tuning import Setting


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Print runs, time, disk space and the difference that the seeds can show.

    Returns:
        Exit status: 0, or 2 after an error message.
    """
    parser = argparse.ArgumentParser(
        prog="attnbench plan",
        description="Print how many runs a sweep has, how long it will take, and what its seeds can show. A short run"
        " of each setting is timed, unless finished runs tell its time.",
    )
    parser.add_argument("overrides", nargs="+", help="as for attnbench train -m: sweep=heads, key=value, key=1,2,3")
    parser.add_argument("--no-timing", action="store_true", help="do not run anything: no time and no disk space")
    arguments = parser.parse_args(argv)
    try:
        plan = build_plan(arguments.overrides, is_multirun=True)
        settings, options = list_settings(arguments.overrides)
        later = count_later_runs(settings, options)
        cost = None if arguments.no_timing else estimate_sweep(plan, later, _report)
    except (ConfigError, TimingError, RecordError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    for line in _format_lines(plan, settings, later, cost):
        print(line)
    return 0


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _format_lines(plan: Plan, settings: Sequence[Setting], later: int, cost: SweepCost | None) -> list[str]:
    stage = "first stage: " if later else ""
    lines = [f"sweep {plan.sweep}: {stage}{_count(len(plan.runs), 'run')} of {_count(len(settings), 'setting')}"]
    if later:
        lines.append(f"later stages: at most {_count(later, 'run')}")
    if plan.skipped:
        lines.append(f"left out: {_count(len(plan.skipped), 'combination')} that cannot be built")
    if cost is not None:
        workers = plan.runs[0].config["sweep"]["workers"]
        at_most = "at most " if later else ""
        source = f"{_count(cost.num_timed, 'setting')} timed" if cost.num_timed else "training time of finished runs"
        lines.append(f"finished: {_count(cost.num_finished, 'run')}")
        lines.append(f"time: {at_most}{format_duration(cost.seconds)} with sweep.workers={workers} ({source})")
        lines.append(f"disk: {at_most}{cost.num_bytes / 1e6:,.0f} MB")
    if (seeds := max(len(setting.seeds) for setting in settings)) > 1 and len(settings) > 1 and not later:
        comparisons = len(settings) - 1
        found = compute_detectable_difference(1.0, seeds, comparisons)
        lines.append(
            f"{seeds} seeds find differences from {found:.2g} standard deviations of the difference on in 80 % of cases"
            f" ({_count(comparisons, 'comparison')} with a baseline)"
        )
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


if __name__ == "__main__":
    exit_process(main())
