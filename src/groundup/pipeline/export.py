"""`groundup export`: a model folder from any checkpoint of a run, by whatever layout it was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.base import Model, fill_tables
from groundup.model.decoder import Decoder
from groundup.model.registry import assemble_any
from groundup.pipeline.card import checkpoint_card
from groundup.pipeline.families.card import unfinished_card
from groundup.run import Run, read_rows
from groundup.shape import Shape, family
from groundup.tokenizer import Tokenizer
from groundup.train import checkpoints


def export(source: Path, out: Path, step: int | None, warn: Callable[[str], None]) -> dict[str, Any]:
    """Write the model of a run's checkpoint to the folder `out`: that of `step`, or else the newest intact one.

    `source` is the run's folder or a checkpoint in it. With `train.ema` the model is the average. The run may be
    going on meanwhile. Returns what was exported. Raises UserError where there is nothing to export, and where
    `out` holds something.
    """
    require_room(out)
    run, checkpoint, model, state = _read(source, step, warn)
    plan, recipe = run.read_json(run.plan_file), run.recipe
    parameters = sum(parameter.numel() for parameter in model.parameters())
    measured = [row for row in read_rows(run.metrics_file) if "val_loss" in row and row["step"] <= state.step]
    validation = measured[-1] if measured else None
    samples = [row for row in read_rows(run.samples_file) if validation and row["step"] == validation["step"]]
    if isinstance(model, Decoder):
        card = checkpoint_card(recipe, plan, parameters, state, validation, samples)
        sampling = {"temperature": recipe.sample.temperature, "top_k": recipe.sample.top_k}
        model_folder.save(out, model, _tokenizer(run), card, sampling)
    else:
        tokenizer = _tokenizer(run) if plan["has_tokenizer"] else None
        model_folder.save(out, model, tokenizer, unfinished_card(recipe, plan, state, validation))
    return {
        "model": str(out),
        "checkpoint": str(checkpoint),
        "steps": state.step,
        "tokens": state.tokens,
        "parameters": parameters,
        "averaged": recipe.train.ema is not None,
    }


def _read(
    source: Path, step: int | None, warn: Callable[[str], None]
) -> tuple[Run, Path, Model, checkpoints.TrainState]:
    """The run, the checkpoint that is meant, and what is in it."""
    while True:
        run, checkpoint = _find(source, step, warn)
        if run.recipe.stages:
            raise UserError(
                f"{run.folder} is a chain of stages, and its model is {run.model}; name one of its stages"
            )
        if run.recipe.stage != "pretrain":
            raise UserError(
                f"{run.folder} is a run of {run.recipe.stage}, whose checkpoints are not read; its model is "
                f"{run.model}, and `groundup merge` makes a whole model of adapters"
            )
        try:
            model = whole_model(checkpoint, Shape(**run.read_json(run.plan_file)["shape"]))
            return run, checkpoint, model, checkpoints.read_state(checkpoint)
        except (UserError, OSError):
            # A run that goes on deletes its oldest checkpoint when it has a newer one: that is meant then.
            if checkpoint.is_dir():
                raise


def whole_model(checkpoint: Path, shape: Shape) -> Model:
    """The model of a checkpoint in this one process, on the CPU; its weights are the average if there is one."""
    model = assemble_any(shape)
    model.to_empty(device="cpu")
    fill_tables(model)
    try:
        model.load_state_dict(checkpoints.load_weights(checkpoint), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"cannot read the model in {checkpoint}: {reason}; name another checkpoint") from None
    return model.eval()


def open_checkpoint(checkpoint: Path) -> tuple[Model, Tokenizer | None]:
    """The model of one checkpoint, RUN/checkpoints/step-N, and the tokenizer of its run, if that reads text."""
    run, _, model, _ = _read(checkpoint, None, lambda _: None)
    return model, None if family(model.shape.family).examples == "images" else _tokenizer(run)


def require_room(out: Path) -> None:
    """UserError where `out` is there and holds something."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already; name a folder that is empty or does not exist yet")


def _find(source: Path, step: int | None, warn: Callable[[str], None]) -> tuple[Run, Path]:
    """The run that is meant, and its checkpoint."""
    if (source / "recipe.toml").is_file():
        run = Run.open(source)
        return run, _named(run, step) if step is not None else _newest(run, warn)
    if source.parent.name == "checkpoints" and (source.parent.parent / "recipe.toml").is_file():
        if step is not None:
            raise UserError(f"{source} is one checkpoint already; give --checkpoint with a run's folder")
        return Run.open(source.parent.parent), _intact(source)
    raise UserError(
        f"{source} is neither a run's folder nor a checkpoint of one; name RUN or RUN/checkpoints/step-N"
    )


def _newest(run: Run, warn: Callable[[str], None]) -> Path:
    checkpoint = checkpoints.newest_intact(run.checkpoints, warn)
    if checkpoint is None:
        raise UserError(f"{run.folder} has no intact checkpoint; `groundup build --resume` continues the run")
    return checkpoint


def _named(run: Run, step: int) -> Path:
    checkpoint = run.checkpoints / f"step-{step}"
    if not checkpoint.is_dir():
        there = ", ".join(
            path.name.removeprefix("step-") for path in checkpoints.list_checkpoints(run.checkpoints)
        )
        raise UserError(f"{run.folder} has no checkpoint {step}; there: {there or 'none'}")
    return _intact(checkpoint)


def _intact(checkpoint: Path) -> Path:
    if problem := checkpoints.damage(checkpoint):
        raise UserError(f"{checkpoint} is damaged ({problem}); name another checkpoint, or the run's folder")
    return checkpoint


def _tokenizer(run: Run) -> Tokenizer:
    """The run's own, or the copy in its model where the cache was emptied since."""
    for folder in (run.tokenizer, run.model):
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.load(folder)
    raise UserError(
        f"the tokenizer of {run.folder} is gone with the cache; `groundup build --resume` makes it again"
    )
