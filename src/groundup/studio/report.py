"""The report of a run: one HTML file that opens anywhere, without a network."""

from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.files import write_atomically
from groundup.run import Run
from groundup.studio.charts import figures
from groundup.studio.page import asset, plotly, render_page
from groundup.studio.stage_report import render_stage
from groundup.studio.summary import summary


def write_report(run: Run) -> Path:
    """Write `report.html` into the run's folder, whether the run is finished or not, and return its path.

    UserError for a chain of stages, each of which has a report of its own.
    """
    if run.recipe.stages:
        runs = ", ".join(str(run.folder / stage) for stage in run.recipe.stages)
        raise UserError(f"{run.folder} is a chain of stages, each with a report of its own; name one of {runs}")
    stage = run.recipe.stage
    write_atomically(run.report_file, render(summary(run)) if stage == "pretrain" else render_stage(run))
    return run.report_file


def render(facts: dict[str, Any]) -> str:
    """The page that shows `facts` (see `summary.summary`); all of their text is escaped."""
    scripts = [plotly(), asset("plotting.js"), asset("report.js")]
    return render_page("report.html.j2", ["report.css"], scripts, facts | {"figures": figures(facts)})
