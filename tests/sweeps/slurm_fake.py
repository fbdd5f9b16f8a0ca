"""As much of Slurm as submitit uses, a script a command: jobs are processes of this machine, started at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "squeue", "scontrol")
JOB = "77"


def install(folder: Path) -> None:
    """Put the commands into `folder`, and what happens into files there."""
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} {name} "$@"\n')
        script.chmod(0o755)


def sbatch(folder: Path, script: str) -> None:
    """Start every job of the array, a process each that waits for it."""
    text = Path(script).read_text()
    (folder / "script").write_text(text)
    found = re.search(r"--array=0-(\d+)", text)
    for index in range(int(found[1]) + 1) if found else [None]:
        name = JOB if index is None else f"{JOB}_{index}"
        command = [sys.executable, __file__, str(folder), "job", name, script]
        nothing = subprocess.DEVNULL
        subprocess.Popen(command, start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)
    print(f"Submitted batch job {JOB}")


def job(folder: Path, name: str, script: str) -> None:
    """One job: again, for as long as it is requeued."""
    environment = {"SLURM_JOB_ID": name, "SLURM_NTASKS": "1"}
    if "_" in name:
        environment |= {"SLURM_ARRAY_JOB_ID": JOB, "SLURM_ARRAY_TASK_ID": name.partition("_")[2]}
    again = True
    while again:
        (folder / f"state_{name}").write_text("RUNNING")
        code = subprocess.run(["bash", script], env=os.environ | environment, check=False).returncode
        again = (folder / f"requeue_{name}").exists()
        (folder / f"requeue_{name}").unlink(missing_ok=True)
    (folder / f"state_{name}").write_text("FAILED" if code else "COMPLETED")


def srun(folder: Path, *arguments: str) -> None:
    """The command after the options, its output where it belongs."""
    output = arguments[arguments.index("--output") + 1]
    task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    for mark, value in {"%A": JOB, "%a": task, "%j": JOB, "%t": "0"}.items():
        output = output.replace(mark, value)
    command = arguments[arguments.index("--output") + 2 :]
    with open(output, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.execvp(command[0], command)


def sacct(folder: Path, *arguments: str) -> None:
    """The states that jobs are in."""
    print("JobID|State|NodeList")
    for path in sorted(folder.glob("state_*")):
        print(f"{path.name.removeprefix('state_')}|{path.read_text()}|here")


def squeue(folder: Path, *arguments: str) -> None:
    """The state of the one that is asked for."""
    print((folder / f"state_{arguments[-1].partition('=')[2]}").read_text())


def scontrol(folder: Path, what: str, name: str) -> None:
    """Requeue a job."""
    assert what == "requeue"
    (folder / f"requeue_{name}").touch()


if __name__ == "__main__":
    globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
