"""Names and descriptions of all commands."""

# Description of each verb; `main` of the module attnbench.<verb> runs it.
COMMANDS = {
    "train": "train one run, or with -m all runs of a sweep",
    "sweep": "train all runs of a named sweep: attnbench sweep heads [overrides]",
    "plan": "print runs, time and disk space of a sweep before it runs, and what its seeds can show",
    "status": "print the state of all runs of a sweep",
    "table": "print the table of a sweep",
    "verify": "render committed tables and figures again from their records, and compare",
    "reproduce": "train the runs behind a committed table again, and compare each cell",
    "report": "write an HTML page to compare runs",
    "translate": "translate text with a trained model",
    "bench": "measure speed and memory",
    "sync": "upload W&B runs",
    "import-wandb": "write records of runs that only W&B has",
    "wandb-sweep": "write a sweep as a file for `wandb sweep`",
    "completion": "print a script that completes commands and config keys in a shell",
}
