"""`groundup bench`: how fast this machine trains a recipe's model, in how much memory, and where the time goes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from groundup.errors import UserError
from groundup.files import write_atomically, write_json
from groundup.pipeline import bench_screens as screens
from groundup.pipeline.bench_process import measure, run
from groundup.pipeline.bench_subject import Subject, make_subject
from groundup.pipeline.bench_sweep import MANIFEST, Sweep, Values, find_unfinished, own_point
from groundup.pipeline.display import Display
from groundup.recipe import Recipe
from groundup.run import new_folder
from groundup.studio.bench import render_profile, render_sweep

Outcome = dict[str, Any]

OUTCOME = "bench.json"


def bench(
    recipe: Recipe,
    display: Display,
    *,
    seconds: float,
    out: Path | None = None,
    timeline: Path | None = None,
    axes: Mapping[str, Values] | None = None,
    memory: bool = False,
) -> Outcome:
    """Measure the recipe's step, or what is asked for instead; returns the outcome with units in its names.

    Args:
        recipe: what it leaves open the planner chooses for its budget.
        display: where figures are shown.
        seconds: how long steps are timed, in each trial.
        out: where pages and figures are written; by default `runs/bench-N`, if there is a page to write.
        timeline: a file for the recorded steps, which are then explained as well.
        axes: measure every combination of them, {} for the usual ones (see `bench_sweep.parse_axes`).
        memory: show the memory of a step over time.

    Raises UserError for what a user can mend.
    """
    _check(out, timeline)
    sweep = _open_sweep(recipe, axes, out, display) if axes is not None else None
    load_average = psutil.getloadavg()[0]  # before measuring, which is a load itself
    subject = sweep.subject if sweep else make_subject(recipe)
    screens.say_subject(subject, load_average, display)
    outcome = subject.as_json() | {"load_average": load_average}
    if not (sweep or timeline or memory):
        outcome |= measure_recipe(subject, seconds, display)
        screens.show_measurements(outcome, display)
    folder = sweep.folder if sweep else out
    if (timeline or memory) and not folder:
        folder = new_folder("bench")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        outcome["folder"] = str(folder)
    if timeline and folder:
        outcome["profile"] = _profile(subject, seconds, timeline, folder, display)
    if memory and folder:
        outcome["memory"] = _memory(subject, folder, display)
    if sweep:
        outcome["sweep"] = _sweep(sweep, seconds, display)
    if folder:
        write_json(folder / OUTCOME, outcome)
    return outcome


def measure_recipe(subject: Subject, seconds: float, display: Display) -> Outcome:
    """Time the step for about `seconds`, eager, compiled, or both where the recipe leaves that to be found out.

    Gives `measurements`, one each, and beside them the figures of the faster one. UserError where none succeeds.
    """
    wanted = subject.trial.settings.compile
    measurements: list[Outcome] = []
    for state in ("off", "on") if wanted == "auto" else (wanted,):
        with display.stage("compiled" if state == "on" else "eager", None):
            found = measure(subject.trial.with_(compile=state), seconds, subject.hardware)
        measurements.append({"compile": state} | found)
    good = [row for row in measurements if "error" not in row]
    if not good:
        raise UserError(f"the step cannot be taken: {measurements[0]['error']}")
    fastest = max(good, key=lambda row: row["tokens_per_second"])
    return fastest | {"measurements": measurements, "compiling": compiling(measurements)}


def compiling(measurements: Sequence[Outcome]) -> Outcome | None:
    """What compiling costs and gains, where both ways were measured; `pays_after_seconds` is None if never.

    The cost is what the first steps take longer than eager ones.
    """
    by_state = {row["compile"]: row for row in measurements if "error" not in row}
    if by_state.keys() != {"off", "on"}:
        return None
    eager, compiled = by_state["off"], by_state["on"]
    cost = max(0.0, compiled["warmup_seconds"] - eager["warmup_seconds"])
    saved = eager["step_seconds"] - compiled["step_seconds"]
    return {
        "seconds": cost,
        "from_cache": compiled["compiled_from_cache"],
        "speedup": eager["step_seconds"] / compiled["step_seconds"],
        "pays_after_seconds": cost / saved * eager["step_seconds"] if saved > 0 else None,
    }


def _profile(subject: Subject, seconds: float, timeline: Path, folder: Path, display: Display) -> Outcome:
    """Record steps in `timeline`, and say where the time goes, on the screen and on a page."""
    state = "on" if subject.trial.settings.compile == "on" else "off"
    with display.stage("recording", None):
        found = run("profile", subject.trial.with_(compile=state), seconds, timeline=timeline.absolute())
    if "error" in found:
        raise UserError(f"the step cannot be recorded: {found['error']}")
    page = folder / "profile.html"
    peak = subject.hardware.flops(subject.trial.precision)
    profile = {
        "compile": state,
        "timeline": str(timeline),
        "page": str(page),
        "peak_flops_per_second": peak,
    } | found
    write_atomically(page, render_profile(subject.as_json(), profile))
    screens.show_profile(profile, display)
    return profile


def _memory(subject: Subject, folder: Path, display: Display) -> Outcome:
    from groundup.pipeline.bench_memory import memory_timeline

    return memory_timeline(subject, folder, display)


def _open_sweep(recipe: Recipe, axes: Mapping[str, Values], out: Path | None, display: Display) -> Sweep:
    """The sweep to go on with, or a new one in `out` or the next free folder of `runs`."""
    sweep = Sweep.open(out, recipe, axes) if out else find_unfinished(recipe, axes)
    if sweep:
        there = len(sweep.points) - len(sweep.missing())
        display.say(f"continuing {sweep.folder}: {there:,} of {len(sweep.points):,} points are there")
        return sweep
    folder = out or new_folder("bench")
    if (folder / MANIFEST).exists():
        raise UserError(f"{folder} holds a sweep of another recipe; choose another folder with --out")
    subject = make_subject(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    return Sweep.create(folder, subject, axes)


def _sweep(sweep: Sweep, seconds: float, display: Display) -> Outcome:
    """Measure what is missing; the page is written also when the sweep is stopped."""
    page = sweep.folder / "sweep.html"

    def write_page() -> None:
        rows = sweep.rows()
        own = own_point(sweep.subject.trial)._asdict()
        write_atomically(page, render_sweep(sweep.subject.as_json(), rows, own, len(sweep.points)))

    try:
        with screens.sweep_bar(sweep, display) as tell:
            sweep.run(seconds, tell)
    except KeyboardInterrupt:
        write_page()
        display.say(f"stopped; the same command goes on; so far: {page}")
        raise
    write_page()
    rows = sweep.rows()
    screens.show_best(rows, display)
    display.say(f"page    {page}")
    return {"page": str(page), "points": rows}


def _check(out: Path | None, timeline: Path | None) -> None:
    """Refuse names that could not be written to, before any time is spent."""
    if out and out.exists():
        if not out.is_dir():
            raise UserError(f"--out {out} is a file; name a folder")
        if any(out.iterdir()) and not ((out / OUTCOME).exists() or (out / MANIFEST).exists()):
            raise UserError(f"--out {out} is not empty and holds no measurements; choose another folder")
    if timeline and timeline.is_dir():
        raise UserError(f"--profile {timeline} is a folder; name a file, for example {timeline / 'step.json'}")
    if timeline and not timeline.absolute().parent.is_dir():
        raise UserError(f"--profile {timeline}: there is no folder {timeline.parent}; make it first")
