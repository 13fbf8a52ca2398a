"""`groundup bench --sweep`: every combination of the settings that decide speed and memory, measured in turn.

What was measured is on disk at once, a row a combination, so that nothing is lost when a sweep is stopped; the
same command goes on with what is missing.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Self, cast, get_args

from filelock import FileLock, Timeout

from groundup.errors import UserError, nearest
from groundup.files import write_atomically, write_json
from groundup.pipeline.bench_process import Trial, measure
from groundup.pipeline.bench_subject import Subject, subject_on
from groundup.plan.hardware import Hardware, Precision
from groundup.recipe import Recipe, TrainRecipe
from groundup.run import DEFAULT_PARENT, read_rows
from groundup.train.metrics import MetricsWriter

ROWS, MANIFEST = "sweep.jsonl", "sweep.json"
FIXED = "fixed"
"""As a value of accumulation: as many micro-batches as make up the recipe's batch."""

Values = tuple[int | str, ...]
_CHOICES: dict[str, Values] = {
    "recompute": ("none", "selective", "full"),
    "precision": ("fp32", "bf16", "bf16-weights"),
    "compile": ("off", "on"),
}
_KNOWN: dict[str, Values] = _CHOICES | {"precision": get_args(Precision)}
_COUNTS = ("micro_batch", "accumulation")
AXES = (*_COUNTS, *_CHOICES)
# Micro-batches from twice the batch down to an eighth of it.
_HALVINGS = range(-1, 4)
# What a point may take beside its measured steps: starting, compiling, warming up, and steps that are long.
_GRACE_SECONDS, _GRACE_FACTOR = 180.0, 10.0


class Point(NamedTuple):
    """One combination."""

    micro_batch: int
    accumulation: int
    recompute: str
    precision: str
    compile: str

    def trial(self, base: Trial) -> Trial:
        """The trial of this combination."""
        settings = {name: getattr(self, name) for name in ("micro_batch", "recompute", "precision", "compile")}
        return replace(
            base,
            settings=TrainRecipe(**base.settings.model_dump() | settings),
            batch_size=self.micro_batch * self.accumulation,
            precision=cast(Precision, self.precision),
        )

    def __str__(self) -> str:
        compiled = "compiled" if self.compile == "on" else "eager"
        recompute = "" if self.recompute == "none" else f", recompute {self.recompute}"
        return f"{self.micro_batch} x {self.accumulation}, {self.precision}, {compiled}{recompute}"


def parse_axes(written: Sequence[str]) -> dict[str, Values]:
    """`["micro_batch=4,8", "compile=off"]` as axes and their values; UserError for what is not one."""
    axes: dict[str, Values] = {}
    for text in written:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise UserError(f"--over {text}: write it as axis=value,value, for example --over micro_batch=4,8")
        if name not in AXES:
            raise UserError(f"--over {text}: unknown axis '{name}'{nearest(name, AXES)}")
        axes[name] = tuple(_axis_value(name, value.strip()) for value in values.split(","))
    return axes


def _axis_value(name: str, value: str) -> int | str:
    if name in _KNOWN:
        if value not in _KNOWN[name]:
            known = ", ".join(map(str, _KNOWN[name]))
            raise UserError(f"--over {name}: '{value}' is not one of {known}")
        return value
    if name == "accumulation" and value == FIXED:
        return FIXED
    if not value.isdecimal() or int(value) < 1:
        words = f" or '{FIXED}' (the recipe's batch)" if name == "accumulation" else ""
        raise UserError(f"--over {name}: '{value}' is not a whole number from 1 on{words}")
    return int(value)


def grid(base: Trial, axes: Mapping[str, Values]) -> list[Point]:
    """All combinations of the given axes, the others at their usual values; those nearest to `base` come first.

    So that a sweep that is stopped early has told what each setting does on its own. Usual values: micro-batches
    from an eighth of the batch to twice the batch, each as often as makes up the batch, and alone.
    """
    sizes = (int(base.batch_size * 0.5**halvings) for halvings in _HALVINGS)
    usual: dict[str, Values] = {
        "micro_batch": tuple(size for size in sizes if size),
        "accumulation": (FIXED, 1),
        **_CHOICES,
    }
    points: dict[Point, None] = {}
    for micro_batch, accumulation, *others in product(*(axes.get(name, usual[name]) for name in AXES)):
        whole, rest = divmod(base.batch_size, int(micro_batch))
        if accumulation == FIXED and (rest or not whole):
            continue
        count = whole if accumulation == FIXED else accumulation
        points[Point(int(micro_batch), int(count), *map(str, others))] = None
    if not points:
        raise UserError(
            f"--over leaves nothing to measure: no micro_batch given divides the batch of {base.batch_size}"
        )
    own = own_point(base)
    return sorted(points, key=lambda point: _differences(point, own))


def own_point(base: Trial) -> Point:
    """The combination that the recipe itself stands for, not compiled where it leaves that open."""
    compile_ = "on" if base.settings.compile == "on" else "off"
    return Point(base.micro_batch, base.accumulation, base.settings.recompute, base.precision, compile_)


def _differences(point: Point, own: Point) -> int:
    """In how many settings two points differ; how a batch is cut counts as one."""
    batch = point[:2] != own[:2]
    return batch + sum(one != other for one, other in zip(point[2:], own[2:], strict=True))


class Sweep:
    """A sweep in a folder: `sweep.json` says of what, `sweep.jsonl` has a row a point."""

    def __init__(self, folder: Path, subject: Subject, points: Sequence[Point]):
        self.folder, self.subject, self.points = folder, subject, points
        self._rows_file = folder / ROWS

    @classmethod
    def open(cls, folder: Path, recipe: Recipe, axes: Mapping[str, Values]) -> Self | None:
        """The sweep that `folder` holds, if it is of this recipe, on the machine as it was measured then."""
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return None
        stored = json.loads(manifest.read_text("utf-8"))
        if stored["recipe"] != recipe.model_dump():
            return None
        subject = subject_on(recipe, Hardware(**stored["hardware"]))
        return cls(folder, subject, grid(subject.trial, axes))

    @classmethod
    def create(cls, folder: Path, subject: Subject, axes: Mapping[str, Values]) -> Self:
        """A new sweep in an existing folder."""
        points = grid(subject.trial, axes)
        stored = {"recipe": subject.recipe.model_dump(), "hardware": asdict(subject.hardware)}
        write_json(folder / MANIFEST, stored)
        return cls(folder, subject, points)

    def rows(self) -> list[dict[str, Any]]:
        """What has been measured, whether this time's points or not."""
        return list(read_rows(self._rows_file))

    def missing(self) -> list[Point]:
        """The points that have not been measured; one that failed would fail again."""
        done = {Point(*(row[axis] for axis in AXES)) for row in self.rows()}
        return [point for point in self.points if point not in done]

    def run(self, seconds: float, tell: Callable[[Point, dict[str, Any], float], None]) -> None:
        """Measure what is missing, each for about `seconds`; `tell` hears of each, with the seconds that it took.

        UserError if another process is at it.
        """
        with self._locked():
            _drop_torn_row(self._rows_file)
            with MetricsWriter(self._rows_file) as writer:
                for point in self.missing():
                    before = time.monotonic()
                    found = measure(
                        point.trial(self.subject.trial),
                        seconds,
                        self.subject.hardware,
                        most_seconds=_GRACE_SECONDS + _GRACE_FACTOR * seconds,
                    )
                    taken = time.monotonic() - before
                    row = point._asdict() | {"batch_size": point.micro_batch * point.accumulation} | found
                    writer.write(**row, seconds=taken)
                    tell(point, row, taken)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / ".lock", blocking=False):
                yield
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by another groundup process; wait for it or stop it"
            ) from None


def find_unfinished(recipe: Recipe, axes: Mapping[str, Values], parent: Path = DEFAULT_PARENT) -> Sweep | None:
    """The newest sweep of this recipe that has not measured all of these axes."""
    manifests = sorted(parent.glob(f"*/{MANIFEST}"), key=lambda file: file.stat().st_mtime, reverse=True)
    sweeps = (Sweep.open(manifest.parent, recipe, axes) for manifest in manifests)
    return next((sweep for sweep in sweeps if sweep and sweep.missing()), None)


def _drop_torn_row(file: Path) -> None:
    """Take away a last row that a crash left without its end, so that the next one begins on a line of its own."""
    written = file.read_bytes() if file.is_file() else b""
    if written and not written.endswith(b"\n"):
        write_atomically(file, written[: written.rfind(b"\n") + 1])
