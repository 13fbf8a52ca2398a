"""`groundup bench parallel`: what a step of each layout sends, keeps and waits for, beside theory."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import psutil

from groundup.errors import UserError
from groundup.files import write_atomically, write_json
from groundup.pipeline import bench_parallel_screens as screens
from groundup.pipeline.bench_parallel_layouts import Candidate, candidate, every_technique
from groundup.pipeline.bench_parallel_processes import measure
from groundup.pipeline.bench_subject import Subject, make_subject
from groundup.pipeline.display import Display
from groundup.pipeline.sent_rows import beside
from groundup.plan.cluster.kept import Kept, step_kept
from groundup.plan.cluster.sent import NumberBytes, bubble_share, step_sent
from groundup.plan.hardware import Precision
from groundup.processor import cores_for
from groundup.recipe import Recipe
from groundup.run import new_folder
from groundup.studio.parallel_timeline import render_parallel

Row = dict[str, Any]

OUTCOME, PAGE = "parallel.json", "parallel.html"
_PRECISION: Precision = "fp32"


def bench_parallel(
    recipe: Recipe,
    display: Display,
    *,
    nproc: int,
    layouts: Sequence[str] = (),
    seconds: float,
    out: Path | None = None,
) -> Row:
    """Measure each layout in `nproc` processes of its own; returns the outcome with units in its names.

    Args:
        recipe: its model is trained on random tokens, in float32 and not compiled, so that the formulas hold and
            everything that is sent is seen.
        display: where figures are shown.
        nproc: processes on this machine.
        layouts: fields of `[parallel]` ("data=2,zero=3"); by default every technique that fits.
        seconds: how long steps are timed, for each layout.
        out: where the page and the figures are written; by default `runs/bench-N`.

    Raises UserError for what a user can mend, before any process is started.
    """
    if out and out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    load_average = psutil.getloadavg()[0]  # before measuring, which is a load itself
    subject = _subject(recipe, nproc)
    chosen, unfit = _choose(subject, layouts, nproc)
    folder = out or new_folder("bench")
    folder.mkdir(parents=True, exist_ok=True)
    screens.say_parallel(subject, nproc, load_average, display)
    for name, reason in unfit.items():
        display.say(f"left out: {name}: {reason}", "dim")
    with display.stage("one process", None):
        alone = measure(subject.trial, None, seconds, 1)[0]
    if "error" in alone:
        raise UserError(f"the step cannot be taken: {alone['error']}")
    rows = []
    for number, one in enumerate(chosen, 1):
        with display.stage(f"{number}/{len(chosen)} {one.name}", None):
            rows.append(_row(subject, one, measure(subject.trial, one, seconds, nproc), alone))
    outcome = subject.as_json() | {
        "nproc": nproc,
        "load_average": load_average,
        "one_process_tokens_per_second": subject.trial.step_tokens / alone["step_seconds"],
        "layouts": rows,
        "left_out": unfit,
        "folder": str(folder),
        "page": str(folder / PAGE),
    }
    write_atomically(folder / PAGE, render_parallel(outcome))
    write_json(folder / OUTCOME, outcome)
    screens.show_parallel(outcome, display)
    return outcome


def _subject(recipe: Recipe, nproc: int) -> Subject:
    """What the recipe leaves open filled in; as many threads a process as there are cores for each."""
    threads = recipe.train.threads or cores_for(nproc)
    settings = {"precision": _PRECISION, "compile": "off", "recompute": "none", "threads": threads}
    plain = recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})
    subject = make_subject(plain)
    return replace(subject, trial=subject.trial.with_(micro_batch=None))


def _choose(subject: Subject, layouts: Sequence[str], nproc: int) -> tuple[list[Candidate], dict[str, str]]:
    """The layouts to measure; of the usual ones those that fit, and why others do not."""
    recipe, trial = subject.recipe, subject.trial
    if layouts:
        return [candidate(recipe, trial, text, nproc) for text in layouts], {}
    fitting, unfit = [], {}
    for text in every_technique(nproc):
        try:
            fitting.append(candidate(recipe, trial, text, nproc))
        except UserError as error:
            unfit[text] = str(error)
    return fitting, unfit


def _row(subject: Subject, one: Candidate, found: list[Row], alone: Row) -> Row:
    """The figures of a layout beside theory; `processes` has those of each, by rank."""
    described = {"layout": one.name, **asdict(one.layout)}
    if "error" in found[0]:
        return described | {"error": found[0]["error"]}
    processes = [_process(subject, one, rank, process) for rank, process in enumerate(found)]
    step_seconds = max(process["step_seconds"] for process in found)
    recorded = [process["recorded"] for process in found]
    row = described | {
        "step_seconds": step_seconds,
        "tokens_per_second": subject.trial.step_tokens / step_seconds,
        "speedup": alone["step_seconds"] / step_seconds,
        "processes": processes,
        "sent_error": max((process["sent_error"] for process in processes), key=abs),
        "kept_error": max((process["kept_error"] for process in processes), key=abs),
    }
    for name in ("compute", "exposed", "idle"):
        row[f"{name}_share"] = sum(step[f"{name}_seconds"] for step in recorded) / sum(
            step["step_seconds"] for step in recorded
        )
    if one.layout.pipeline > 1:
        row |= {"bubble_share": _measured_bubble(recorded), "bubble_theory": bubble_share(one.layout)}
    return row


def _measured_bubble(recorded: Sequence[Row]) -> float:
    """The share of the passes of a step, from the first to the end of the last, in which processes were idle."""
    begin = min(step["begin"] for step in recorded)
    end = max(step["last_backward"] for step in recorded)
    idle = sum(max(0.0, min(b, end) - max(a, begin)) for step in recorded for a, b in step["idle"])
    return float(idle / ((end - begin) * len(recorded)))


def _process(subject: Subject, one: Candidate, rank: int, found: Row) -> Row:
    """One process's figures beside theory."""
    trial, layout, parallel = subject.trial, one.layout, one.parallel
    place = found["places"]["pipeline"]
    expected = step_sent(
        trial.shape,
        layout,
        place,
        NumberBytes(gradients=4 if parallel.reduce == "fp32" else 2),
        optimizer=trial.settings.optimizer,
    )
    kept = step_kept(trial.shape, layout, place, trial.settings, 1e6 * parallel.bucket_mb)
    sent, theory = sum(row["bytes"] for row in found["sent"]), sum(row.bytes for row in expected)
    return {
        "rank": rank,
        "sent": beside(found["sent"], expected),
        "sent_bytes": sent,
        "sent_theory_bytes": theory,
        "sent_error": sent / theory - 1,
        "kept": found["kept"],
        "kept_theory": kept._asdict(),
        "kept_error": max((_error(found["kept"], kept, name) for name in Kept._fields), key=abs),
        "recorded": found["recorded"],
    }


def _error(counted: Row, theory: Kept, name: str) -> float:
    expected = getattr(theory, name)
    return cast(float, counted[name] / expected - 1) if expected else 0.0
