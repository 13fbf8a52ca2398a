"""What `groundup bench` shows in the terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from groundup.pipeline.bench_subject import Subject
from groundup.pipeline.bench_sweep import Point, Sweep
from groundup.pipeline.display import Display
from groundup.pipeline.numbers import bytes_text, human, seconds_text
from groundup.pipeline.screens import say_machine
from groundup.plan.parameters import total
from groundup.studio.quantities import quantity

_BEST = 10
# The share of the processors at which other programs are felt.
_BUSY = 0.5


def say_subject(subject: Subject, load_average: float, display: Display) -> None:
    """The machine and whether it is busy, the model and the step that are measured."""
    say_machine(subject.hardware, display)
    cores = psutil.cpu_count() or 1
    if load_average > _BUSY * cores:
        display.warn(f"the load is {load_average:.1f} on {cores} processors: other programs disturb these figures")
    trial, shape = subject.trial, subject.trial.shape
    display.say(
        f"model: {shape.family}, {human(total(shape))} parameters: {shape.num_layers} layers, "
        f"width {shape.width}, {shape.num_heads} heads ({shape.num_kv_heads} key/value), context {shape.context}, "
        f"vocabulary {shape.vocabulary_size:,}"
    )
    if subject.chosen:
        names = ", ".join(field.partition(".")[2] for field in subject.chosen)
        display.say(f"       the planner chose {names} for a budget of {subject.recipe.budget}")
    parts = f" in {trial.accumulation} micro-batches of {trial.micro_batch}" if trial.accumulation > 1 else ""
    display.say(
        f"step: {trial.batch_size} sequences of {shape.context} random tokens{parts}, {trial.precision}, "
        f"recompute {trial.settings.recompute}, {trial.settings.optimizer}, {trial.threads} threads"
    )


def show_measurements(outcome: dict[str, Any], display: Display) -> None:
    """A column for eager and compiled, and what compiling costs and gains."""
    rows = outcome["measurements"]
    peak = outcome["hardware"]["flops_fp32" if outcome["precision"] == "fp32" else "flops_bf16"]
    table = _table("", ["compiled" if row["compile"] == "on" else "eager" for row in rows])
    for name, cell in (
        ("tokens/s", lambda row: human(row["tokens_per_second"])),
        ("FLOP/s", lambda row: human(row["flops_per_second"])),
        (f"of the measured {human(peak)}FLOP/s", lambda row: quantity(row["utilisation"], "percent")),
        ("a step (median)", lambda row: quantity(row["step_seconds"], "milliseconds")),
        ("  the quickest", lambda row: quantity(row["step_seconds_least"], "milliseconds")),
        ("  spread of the middle half", lambda row: quantity(row["step_seconds_spread"], "percent")),
        ("  steps timed", lambda row: f"{row['steps']:,}"),
        ("peak memory", lambda row: bytes_text(row["peak_bytes"])),
        ("  before there is a model", lambda row: bytes_text(row["start_bytes"])),
    ):
        table.add_row(name, *("–" if "error" in row else cell(row) for row in rows))
    display.console.print(table)
    for row in rows:
        if "error" in row:
            display.warn(f"{'compiled' if row['compile'] == 'on' else 'eager'}: {row['error']}")
    measured = {row["peak_of"] for row in rows if "error" not in row}
    display.say(f"Peak memory is the largest resident size of a process of its own, over {measured.pop()}.", "dim")
    if outcome["compiling"]:
        display.say(compiling_text(outcome["compiling"]))


def compiling_text(compiling: dict[str, Any]) -> str:
    """One sentence: the cost, the gain, and from when on it pays."""
    cache = "with its code in the cache" if compiling["from_cache"] else "with nothing in the cache"
    cost = f"Compiling takes {seconds_text(compiling['seconds'])} ({cache})"
    if compiling["pays_after_seconds"] is None:
        return f"{cost} and gains nothing here."
    gain, pays = compiling["speedup"] - 1, seconds_text(compiling["pays_after_seconds"])
    return f"{cost} and makes steps {gain:.0%} faster: it pays from {pays} of training on."


def show_profile(profile: dict[str, Any], display: Display) -> None:
    """Where the time of a step goes, by kind of work and by module."""
    step = quantity(profile["step_seconds"], "milliseconds")
    undisturbed = quantity(profile["undisturbed_step_seconds"], "milliseconds")
    state = "compiled" if profile["compile"] == "on" else "eager"
    display.say(f"\n{profile['steps']} steps recorded, {state}: {step} each ({undisturbed} when not recorded)")
    table = _table("kind of work", ["share", "a step", "calls", "FLOP/s", "of peak"])
    for row in profile["kinds"]:
        rate = row["flops_per_second"]
        table.add_row(
            row["kind"],
            quantity(row["share"], "percent"),
            quantity(row["seconds"], "milliseconds"),
            f"{row['calls']:,.0f}" if row["calls"] else "–",
            human(rate) if rate else "–",
            quantity(rate / profile["peak_flops_per_second"], "percent") if rate else "–",
        )
    display.console.print(table, "")
    table = _table("module", ["share", "forward", "backward"])
    for row in profile["modules"]:
        passes = [row["forward_seconds"], row["backward_seconds"]]
        times = (quantity(value, "milliseconds") if value else "–" for value in passes)
        table.add_row(escape(row["module"]), quantity(row["share"], "percent"), *times)
    display.console.print(table, "")
    display.say(f"page      {profile['page']}")
    display.say(f"timeline  {profile['timeline']} (open it in ui.perfetto.dev or chrome://tracing)")


@contextmanager
def sweep_bar(sweep: Sweep, display: Display) -> Iterator[Callable[[Point, dict[str, Any], float], None]]:
    """A bar with the time left, and a line a point; the block is given the function that a sweep tells of each."""
    missing, taken = sweep.missing(), list[tuple[Point, float]]()
    columns = [TextColumn("sweep"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn()]
    left = TextColumn("left {task.fields[left]}")
    with Progress(
        *columns, left, console=display.console, transient=True, disable=not display.console.is_terminal
    ) as progress:
        number = len(sweep.points)
        task = progress.add_task("", total=number, completed=number - len(missing), left="?")

        def tell(point: Point, row: dict[str, Any], seconds: float) -> None:
            taken.append((point, seconds))
            progress.update(task, advance=1, left=seconds_text(_seconds_left(taken, missing)))
            display.say(f"{number - len(missing) + len(taken)}/{number}  {point}: {_result(row)}", style="dim")

        yield tell


def _seconds_left(taken: Sequence[tuple[Point, float]], missing: Sequence[Point]) -> float:
    """If each point that is missing takes as long as those before that were compiled, or not, like it."""
    left = 0.0
    for point in missing[len(taken) :]:
        alike = [seconds for other, seconds in taken if other.compile == point.compile]
        known = alike or [seconds for _, seconds in taken]
        left += sum(known) / len(known)
    return left


def _result(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"failed: {row['error']}"
    share = quantity(row["utilisation"], "percent")
    return f"{human(row['tokens_per_second'])} tokens/s, {share} of peak, {bytes_text(row['peak_bytes'])}"


def show_best(rows: Sequence[dict[str, Any]], display: Display) -> None:
    """The ten fastest points, and how many failed."""
    good = [row for row in rows if "error" not in row]
    failed = len(rows) - len(good)
    best = sorted(good, key=lambda row: -row["tokens_per_second"])[:_BEST]
    table = _table("micro-batch", ["tokens/s", "of peak", "peak memory", "settings"])
    for row in best:
        point = Point(*(row[axis] for axis in Point._fields))
        table.add_row(
            f"{point.micro_batch} x {point.accumulation}",
            human(row["tokens_per_second"]),
            quantity(row["utilisation"], "percent"),
            bytes_text(row["peak_bytes"]),
            str(point).partition(", ")[2],
        )
    display.say(f"\nThe fastest of {len(good):,} points" + (f"; {failed:,} failed" if failed else ""))
    display.console.print(table)


def _table(first: str, names: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in names:
        table.add_column(name, justify="left" if name == "settings" else "right")
    return table
