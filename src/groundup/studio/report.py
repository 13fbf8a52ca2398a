"""The report of a run: one HTML file that opens anywhere, without a network."""

from pathlib import Path
from typing import Any

from groundup.files import write_atomically
from groundup.run import Run
from groundup.studio.charts import figures
from groundup.studio.page import asset, plotly, render_page
from groundup.studio.summary import summary


def write_report(run: Run) -> Path:
    """Write `report.html` into the run's folder, whether the run is finished or not, and return its path."""
    write_atomically(run.report_file, render(summary(run)))
    return run.report_file


def render(facts: dict[str, Any]) -> str:
    """The page that shows `facts` (see `summary.summary`); all of their text is escaped."""
    scripts = [plotly(), asset("plotting.js"), asset("report.js")]
    return render_page("report.html.j2", ["report.css"], scripts, facts | {"figures": figures(facts)})
