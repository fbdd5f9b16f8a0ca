"""Where the YAML files of the config groups are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# In an installed package, conf/ is inside it; in a checkout, at the top of the repository.
CONFIG_FOLDER = next(
    (path for path in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if path.is_dir()), PACKAGE / "conf"
)
