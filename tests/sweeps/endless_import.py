"""A module whose import does not end, as a fork server's first ones take seconds: it says who imports it."""

import os
import signal
from pathlib import Path

Path(os.environ["ENDLESS_IMPORT"]).write_text(str(os.getpid()))
while True:
    signal.pause()
