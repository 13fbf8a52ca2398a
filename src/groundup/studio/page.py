"""What our pages have in common: one HTML file, no network, only its own scripts, all text escaped."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from groundup.studio.quantities import quantity

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(name: str, styles: Sequence[str], scripts: Sequence[str], facts: dict[str, Any]) -> str:
    """The page that the template `name` makes of `facts`.

    Args:
        name: of a file in `templates/`, as are the names of style sheets, which are put into the page.
        styles: names of style sheets.
        scripts: JavaScript source; the page's security policy lets nothing else run.
        facts: what the template shows; all of it is escaped.
    """
    from markupsafe import Markup

    return (
        _environment()
        .get_template(name)
        .render(
            facts,
            style=Markup("".join(map(asset, styles))),
            scripts=[Markup(script) for script in scripts],
            script_hashes=[_policy_hash(script) for script in scripts],
        )
    )


def asset(name: str) -> str:
    """The text of a style sheet or script that lies beside the templates."""
    return (resources.files("groundup.studio") / "templates" / name).read_text("utf-8")


def plotly() -> str:
    """The source of plotly.js, such that nothing in it ends the script element that it is put into."""
    from plotly.offline import get_plotlyjs

    source = str(get_plotlyjs()).replace("</script", r"<\/script")
    # A reader of HTML takes each of these for one line feed: the hash must be that of what it reads.
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("groundup.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quantity"] = quantity
    return environment


def _policy_hash(script: str) -> str:
    """The name of a script in the page's content security policy: only scripts that it names are run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
