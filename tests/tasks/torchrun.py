"""torchrun, several times from one interpreter: ranks are forked from it, and what they need is imported once."""

from __future__ import annotations

import json
import sys

from torch.distributed.run import main

import attnbench.tasks.run
import attnbench.train

HOW = ["--nproc-per-node=2", "--standalone", "--start-method=fork", "--run-path", attnbench.train.__file__]

if __name__ == "__main__":
    for arguments in json.load(sys.stdin):
        main([*HOW, *arguments])
