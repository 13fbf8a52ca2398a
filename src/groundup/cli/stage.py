"""What the verbs of all stages share: from options to a recipe, and a run made or continued."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from groundup.errors import UserError

if TYPE_CHECKING:
    from groundup.recipe import Recipe

ModelArgument: TypeAlias = Annotated[
    str | None, typer.Argument(help="What to start from: a run's folder, a model folder or a .gguf file.")
]
DataArgument: TypeAlias = Annotated[
    list[str] | None, typer.Argument(help="Files, folders, globs, hf:NAME or demo:NAME. Default: the recipe's.")
]
RecipeOption: TypeAlias = Annotated[str, typer.Option(help="A ready recipe's name or a TOML file.")]
SetOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override any field of the recipe.")
]
OutOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="The run's folder. Default: runs/STAGE-1, -2, ...")
]
SeedOption: TypeAlias = Annotated[int | None, typer.Option(help="Decides, with the recipe, the whole run.")]
NprocOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, help="Start so many processes here; [parallel] divides the work."),
]
ResumeOption: TypeAlias = Annotated[bool, typer.Option("--resume", help="Continue the newest run, or --out.")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]
LoraOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="r=N[,alpha=A][,targets=attention|all][,dropout=P][,rows=new|all]",
        help="Train low-rank adapters only.",
    ),
]
FreezeOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="first:N|embeddings", help="What keeps its weights.")
]
FullOption: TypeAlias = Annotated[bool, typer.Option("--full", help="Train all weights, as without --lora.")]
TemplateOption: TypeAlias = Annotated[
    str | None, typer.Option(help="chatml, llama3, ... or a Jinja file. Default: the model's own, else chatml.")
]
BudgetOption: TypeAlias = Annotated[
    str | None, typer.Option(help="5m, 200steps or 1Mtok, instead of the recipe's epochs.")
]
EpochsOption: TypeAlias = Annotated[float | None, typer.Option(help="How often the data is read.")]
LrOption: TypeAlias = Annotated[float | None, typer.Option(help="The peak learning rate. Default: by the model.")]

_LORA = {"r": "lora", "alpha": "lora_alpha", "targets": "lora_targets", "dropout": "lora_dropout",
         "rows": "lora_rows"}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A stage, what its verb was given as fields of the stage's section, and what every verb has."""

    stage: str
    fields: dict[str, Any]
    recipe: str
    set_: list[str] | None
    out: Path | None
    seed: int | None
    resume: bool
    as_json: bool
    nproc: int | None = None


def lora_fields(lora: str | None, freeze: str | None, full: bool) -> dict[str, Any]:
    """What `--lora r=16,alpha=32`, `--freeze` and `--full` say, as fields of a section."""
    if full and (lora or freeze):
        raise UserError("--full trains all weights; leave out --lora and --freeze")
    if full:
        return {"lora": 0, "freeze": "none"}
    fields: dict[str, Any] = {"freeze": freeze}
    for part in lora.split(",") if lora else []:
        name, equals, value = part.partition("=")
        field = _LORA.get(name)
        if field is None or not equals:
            raise UserError(f"--lora {lora}: write it as r=16, or r=16,alpha=32,targets=attention")
        fields[field] = value if field in {"lora_targets", "lora_rows"} else _number(value, part)
    return fields


def run_stage(asked: Asked) -> int:
    """Make the run that is asked for, or continue it; the exit code."""
    import psutil

    started = psutil.Process().create_time()
    given = _given(asked)
    if asked.resume and (given or asked.set_ or asked.seed is not None):
        raise UserError("--resume continues a run as it was planned; give it only --out (and --json)")
    from groundup import run as runs

    if asked.resume:
        run = runs.Run.open(asked.out) if asked.out else runs.newest_unfinished(stage=asked.stage)
        folder = run.folder
        if run.recipe.stages or run.recipe.stage != asked.stage:
            what = "a chain of stages" if run.recipe.stages else f"a run of {run.recipe.stage}"
            raise UserError(f"{folder} holds {what}; continue it with: groundup build --resume --out {folder}")
    else:
        loaded = recipe_of(asked)
        folder = asked.out or runs.new_folder(asked.stage)

    if asked.nproc and asked.nproc > 1:
        return _start(asked, None if asked.resume else loaded, folder, asked.nproc)
    from groundup.pipeline.tuning.run import resume_tuning, tune

    return follow(
        lambda display: (
            resume_tuning(run, display, started) if asked.resume else tune(loaded, folder, display, started)
        ),
        f"groundup {asked.stage} --resume --out {folder}",
        asked.as_json,
    )


def recipe_of(asked: Asked) -> "Recipe":
    """The recipe that is asked for, with everything that the verb was given in its stage's section."""
    from groundup import recipe as recipes

    named = {f"{asked.stage}.{name}": value for name, value in _given(asked).items()}
    if asked.seed is not None:
        named["seed"] = asked.seed
    written = recipes.parse_overrides(asked.set_ or [])
    return recipes.load(asked.recipe, written | named | {"stage": asked.stage, "stages": []})


def _given(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in asked.fields.items() if value not in (None, [])}


def _start(asked: Asked, recipe: "Recipe | None", folder: Path, nproc: int) -> int:
    """The same in many processes, each of which trains the recipe that the run's folder holds."""
    from groundup.pipeline.build import undone_if_refused
    from groundup.pipeline.launch import start_processes
    from groundup.pipeline.tuning.run import prepare

    arguments = ["train", "--resume", "--out", str(folder), *(["--json"] if asked.as_json else [])]
    with nullcontext() if recipe is None else undone_if_refused(prepare(recipe, folder)):
        return start_processes(arguments, nproc, 0, folder)


def follow(work: Callable[[Any], dict[str, Any]], again: str, as_json: bool) -> int:
    """Do the work before a display; `again` is the command that continues it after a signal."""
    from rich.console import Console

    from groundup.pipeline.display import Display
    from groundup.train.trainer import Interrupted

    display = Display(Console(file=sys.stderr if as_json else sys.stdout))
    try:
        outcome = work(display)
    except Interrupted as stop:
        message = f"{stop} and saved; continue with: {again}"
        display.say(message)
        if as_json:
            print(json.dumps({"error": message}))
        return 128 + stop.signal
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False))
    return 0


def _number(value: str, part: str) -> float:
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise UserError(f"--lora {part}: {value} is no number; write it as r=16,alpha=32") from None
