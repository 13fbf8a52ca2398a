"""A run's folder: where everything that a run writes lives, and how it is found again."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from groundup.errors import UserError
from groundup.files import write_atomically, write_json
from groundup.recipe import Recipe, load

DEFAULT_PARENT = Path("runs")


class Run:
    """The folder of one run: `recipe.toml`, `plan.json`, `metrics.jsonl`, `checkpoints/`, `model/`, ..."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recipe_file = folder / "recipe.toml"
        self.plan_file = folder / "plan.json"
        self.outcome_file = folder / "outcome.json"
        self.metrics_file = folder / "metrics.jsonl"
        self.samples_file = folder / "samples.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.model = folder / "model"
        self.report_file = folder / "report.html"
        self.log_file = folder / "log.txt"
        self.tokenizer = folder / "tokenizer"
        self.shards = folder / "shards"
        self._lock = FileLock(folder / ".lock")
        self._made_folder = False

    @classmethod
    def create(cls, folder: Path, recipe: Recipe) -> Self:
        """Make a new run's folder. UserError if `folder` already holds something."""
        if folder.is_file():
            raise UserError(f"--out {folder} is a file; name a folder that does not exist yet")
        if (folder / "recipe.toml").exists():
            raise UserError(
                f"{folder} already holds a run; continue it with --resume, or choose another folder with --out"
            )
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a run; choose another folder with --out")
        run = cls(folder)
        run._made_folder = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        run.save_recipe(recipe)
        return run

    def discard(self) -> None:
        """Undo `create`, for a run that holds nothing worth keeping."""
        shutil.rmtree(self.folder)
        if not self._made_folder:
            self.folder.mkdir()
        if self.folder.parent == DEFAULT_PARENT:
            with suppress(OSError):  # other runs are in it
                self.folder.parent.rmdir()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The run in an existing folder. UserError where there is none."""
        if not (folder / "recipe.toml").is_file():
            raise UserError(f"{folder} is not a run's folder (it has no recipe.toml); `groundup build` makes one")
        return cls(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from building into this folder."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"{self.folder} is in use by another groundup process; wait for it or stop it"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    @property
    def recipe(self) -> Recipe:
        """The recipe as last written."""
        return load(str(self.recipe_file))

    def save_recipe(self, recipe: Recipe) -> None:
        """Write the (resolved) recipe."""
        write_atomically(self.recipe_file, recipe.to_toml())

    @property
    def finished(self) -> bool:
        """Whether the run reached its end."""
        return self.outcome_file.is_file()

    def read_json(self, file: Path) -> dict[str, Any]:
        """A JSON file of the run; empty where the run has not come so far."""
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def save_plan(self, plan: dict[str, Any]) -> None:
        """Write `plan.json`."""
        write_json(self.plan_file, plan)

    def save_outcome(self, outcome: dict[str, Any]) -> None:
        """Write `outcome.json`, which marks the run as finished."""
        write_json(self.outcome_file, outcome)

    def log(self, line: str) -> None:
        """Append a line with the time of day to `log.txt`."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file that this run wrote; a last line torn by a crash is passed over."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def truncate_rows(file: Path, last_step: int, last_validation: int | None = None) -> None:
    """Drop the rows after `last_step`, and validation rows after `last_validation`: they will be written again."""
    of_validation = last_step if last_validation is None else last_validation
    kept = [row for row in read_rows(file) if row["step"] <= (of_validation if "val_loss" in row else last_step)]
    if file.is_file():
        write_atomically(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def new_folder(name: str, parent: Path = DEFAULT_PARENT) -> Path:
    """A folder name that is not taken: `runs/NAME-1`, `runs/NAME-2`, ..."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def newest_unfinished(parent: Path = DEFAULT_PARENT, stage: str | None = None) -> Run:
    """The run to which `--resume` without `--out` refers: of that stage, if one is named."""
    folders = [path.parent for path in parent.glob("*/recipe.toml")]
    unfinished = [folder for folder in folders if not Run(folder).finished]
    if stage is not None:
        unfinished = [folder for folder in unfinished if Run(folder).recipe.stage == stage]
    if not unfinished:
        kind = "run" if stage is None else f"run of {stage}"
        raise UserError(f"--resume: no unfinished {kind} in {parent}{os.sep}; name one with --out")
    return Run.open(max(unfinished, key=lambda folder: folder.stat().st_mtime))
