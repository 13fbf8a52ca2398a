"""`groundup scaling sweep`: small builds of different size and length, from which a law can be fitted.

Each is an ordinary run in a folder of its own; all read the same text with the same tokenizer. What is finished is
kept, and the same command goes on with what is missing.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from rich.console import Console

from groundup.data import default_corpus
from groundup.errors import UserError
from groundup.files import write_atomically, write_json
from groundup.pipeline.build import build, check_names, resume
from groundup.pipeline.calibration import calibrated
from groundup.pipeline.display import Display
from groundup.pipeline.numbers import human, seconds_text
from groundup.pipeline.prepare import stage_text
from groundup.plan.answer import bytes_per_token_of
from groundup.plan.budget import parse_budget
from groundup.plan.candidates import context_for
from groundup.plan.choose import Corpus, choose_vocabulary, roughly_affordable_tokens, text_limit
from groundup.plan.parameters import non_embedding
from groundup.plan.scaling.grid import choose_grid, refuse_fixed_size
from groundup.plan.scaling.runs import ROWS
from groundup.recipe import Recipe
from groundup.run import DEFAULT_PARENT, Run, new_folder
from groundup.shape import Shape
from groundup.train.machine import measure
from groundup.train.peak_memory import reset_peak

MANIFEST = "scaling.json"


@dataclass(frozen=True)
class Question:
    """What was asked for: a sweep with another question is another sweep."""

    recipe: Recipe
    budget: str
    runs: int
    longest_seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "budget": self.budget,
            "runs": self.runs,
            "longest_seconds": self.longest_seconds,
        }


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: its recipe, where only what follows from the size is open, and its expected seconds."""

    recipe: Recipe
    tokens: int
    seconds: float

    @property
    def name(self) -> str:
        """Its folder within the sweep's."""
        return f"{self.recipe.model.num_layers}x{self.recipe.model.width}-{self.tokens}"


class Sweep:
    """A sweep in a folder: `scaling.json` has the question and the runs it means, `runs.jsonl` the results."""

    def __init__(self, folder: Path, planned: list[PlannedRun]):
        self.folder, self.planned = folder, planned

    @classmethod
    def open(cls, folder: Path, question: Question) -> Self | None:
        """The sweep of this question that `folder` holds; None where it holds none. UserError for another's."""
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return None
        stored = json.loads(manifest.read_text("utf-8"))
        if stored["question"] != question.as_json():
            raise UserError(
                f"{folder} holds a sweep of another recipe or budget; choose another folder with --out"
            )
        return cls(
            folder,
            [PlannedRun(Recipe(**row["recipe"]), row["tokens"], row["seconds"]) for row in stored["planned"]],
        )

    @classmethod
    def create(cls, folder: Path, question: Question, display: Display) -> Self:
        """Plan a new sweep: measure the machine, read the text, choose the runs."""
        if folder.is_file():
            raise UserError(f"--out {folder} is a file; name a folder that does not exist yet")
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a sweep; choose another folder with --out")
        planned = plan_runs(question, folder, display)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {
                "recipe": run.recipe.model_dump(mode="json", exclude_none=True),
                "tokens": run.tokens,
                "seconds": run.seconds,
            }
            for run in planned
        ]
        write_json(folder / MANIFEST, {"question": question.as_json(), "planned": rows})
        return cls(folder, planned)

    def run(self, display: Display) -> list[dict[str, Any]]:
        """Make what is missing; the rows of all runs. UserError if another process is at it."""
        with self._locked():
            begun, expected_so_far = time.monotonic(), 0.0
            for number, run in enumerate(self.planned, start=1):
                if self._folder(run).finished:
                    continue
                outcome = self._build(run)
                expected_so_far += run.seconds
                self._write_rows()
                pace = (time.monotonic() - begun) / expected_so_far
                left = pace * sum(other.seconds for other in self.planned if not self._folder(other).finished)
                display.say(
                    f"run {number} of {len(self.planned)}: {run.recipe.model.num_layers} layers of width "
                    f"{run.recipe.model.width}, {human(run.tokens)} tokens: {outcome['bits_per_byte']:.3f} bits "
                    f"per byte in {seconds_text(outcome['total_seconds'])}; {seconds_text(left)} left"
                )
            return self._write_rows()

    def _build(self, run: PlannedRun) -> dict[str, Any]:
        quiet = Display(Console(quiet=True))
        target = self._folder(run)
        reset_peak()
        if (target.folder / "recipe.toml").is_file():
            return resume(target, quiet)
        return build(run.recipe, target.folder, quiet)

    def _folder(self, run: PlannedRun) -> Run:
        return Run(self.folder / run.name)

    def _write_rows(self) -> list[dict[str, Any]]:
        rows = [row_of(self._folder(run)) for run in self.planned if self._folder(run).finished]
        write_atomically(self.folder / ROWS, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / ".lock", blocking=False):
                yield
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by another groundup process; wait for it or stop it"
            ) from None


def sweep(question: Question, out: Path | None, display: Display) -> tuple[Path, list[dict[str, Any]]]:
    """The sweep's folder and a row a run; goes on with an unfinished sweep of the same question."""
    recipe = question.recipe
    check_names(recipe)
    refuse_fixed_size(recipe)
    if not recipe.data.sources:
        recipe.data.sources = [default_corpus()]
    if "-" in recipe.data.sources:
        raise UserError("a sweep reads its text once for each run, which '-' does not allow; give a file instead")
    found = Sweep.open(out, question) if out else _newest_unfinished(question)
    if found is None:
        found = Sweep.create(out or new_folder("scaling"), question, display)
    expected = sum(run.seconds for run in found.planned)
    display.say(f"sweep {found.folder}: {len(found.planned)} runs, about {seconds_text(expected)}", style="bold")
    return found.folder, found.run(display)


def plan_runs(question: Question, folder: Path, display: Display) -> list[PlannedRun]:
    """The runs, with all that they share fixed: text, vocabulary and context are those for the whole budget."""
    recipe, budget = question.recipe.model_copy(deep=True), parse_budget(question.budget)
    hardware = calibrated(measure(recipe.train), recipe.train)
    recipe.data.limit_bytes = recipe.data.limit_bytes or text_limit(budget, hardware)
    text = stage_text(recipe, Run(folder), display)
    recipe.tokenizer.vocabulary_size = choose_vocabulary(recipe, budget, hardware, text.train_bytes)
    recipe.model.context = recipe.model.context or context_for(roughly_affordable_tokens(budget, hardware))
    # One validation, at the end: those on the way cost time and do not change the run.
    recipe.train.validations = 1
    vocabulary_size = recipe.tokenizer.vocabulary_size
    points = choose_grid(
        recipe,
        budget,
        hardware,
        Corpus(text.train_bytes, bytes_per_token_of(vocabulary_size)),
        vocabulary_size,
        question.runs,
        question.longest_seconds,
    )
    return [
        PlannedRun(_of_size(recipe, point.shape, point.tokens), point.tokens, point.seconds) for point in points
    ]


def _of_size(recipe: Recipe, shape: Shape, tokens: int) -> Recipe:
    """The recipe of one run; all else that depends on the size is left to the build's own plan."""
    copy = recipe.model_copy(deep=True)
    copy.model.num_layers, copy.model.width = shape.num_layers, shape.width
    copy.budget = f"{tokens}tok"
    return copy


def row_of(run: Run) -> dict[str, Any]:
    """What a law needs of a finished run; `parameters` without embeddings, `seconds` those of training alone."""
    plan, outcome = run.read_json(run.plan_file), run.read_json(run.outcome_file)
    shape = Shape(**plan["shape"])
    corpus: Mapping[str, Any] = plan["corpus"]
    return {
        "run": run.folder.name,
        "num_layers": shape.num_layers,
        "width": shape.width,
        "context": shape.context,
        "vocabulary_size": shape.vocabulary_size,
        "parameters": non_embedding(shape),
        "total_parameters": outcome["parameters"],
        "tokens": outcome["tokens"],
        "unique_tokens": corpus["train_tokens"],
        "flops": outcome["flops"],
        "batch_size": plan["batch_size"],
        "lr": plan["lr"],
        "bits_per_byte": outcome["bits_per_byte"],
        "loss": outcome["loss"],
        "seconds": outcome["train_seconds"],
        "total_seconds": outcome["total_seconds"],
    }


def _newest_unfinished(question: Question) -> Sweep | None:
    manifests = sorted(DEFAULT_PARENT.glob(f"*/{MANIFEST}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for manifest in manifests:
        if json.loads(manifest.read_text("utf-8"))["question"] != question.as_json():
            continue
        found = Sweep.open(manifest.parent, question)
        if found and not all(Run(found.folder / run.name).finished for run in found.planned):
            return found
    return None
