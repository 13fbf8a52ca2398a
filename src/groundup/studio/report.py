"""The report of a run: one HTML file that opens anywhere, without a network."""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from groundup.files import write_atomically
from groundup.run import Run
from groundup.studio.charts import figures
from groundup.studio.quantities import quantity
from groundup.studio.summary import summary


def write_report(run: Run) -> Path:
    """Write `report.html` into the run's folder, whether the run is finished or not, and return its path."""
    write_atomically(run.report_file, render(summary(run)))
    return run.report_file


def render(facts: dict[str, Any]) -> str:
    """The page that shows `facts` (see `summary.summary`); all of their text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("groundup.studio"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quantity"] = quantity
    scripts = [_plotly(), _template("report.js")]
    return environment.get_template("report.html.j2").render(
        facts,
        figures=figures(facts),
        style=Markup(_template("report.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_policy_hash(script) for script in scripts],
    )


def _template(name: str) -> str:
    return (resources.files("groundup.studio") / "templates" / name).read_text("utf-8")


def _plotly() -> str:
    """The source of plotly.js, such that nothing in it ends the script element that it is put into."""
    from plotly.offline import get_plotlyjs

    source = str(get_plotlyjs()).replace("</script", r"<\/script")
    # A reader of HTML takes each of these for one line feed: the hash must be that of what it reads.
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _policy_hash(script: str) -> str:
    """The name of a script in the page's content security policy: only scripts that it names are run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
