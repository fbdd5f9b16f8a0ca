"""Fill the HTML templates in assets/; text is escaped unless the template marks it as safe."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from attnbench.reporting.grid import BOLD, BOLD_END


def fill_template(name: str, **values: Any) -> str:
    """Fill a template.

    Args:
        name: file in assets/.
        **values: variables of the template.
    """
    return _get_environment().get_template(name).render(values)


@cache
def _get_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("attnbench.reporting", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["bold"] = _mark_bold
    return environment


def _mark_bold(text: str) -> Markup:
    """Escape a text and set its bold parts in bold."""
    return Markup(str(escape(text)).replace(BOLD, "<b>").replace(BOLD_END, "</b>"))  # escaped above
