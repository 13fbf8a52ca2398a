"""Direct preference optimisation and its kin: pairs of answers, and what the reference holds of them."""

from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from groundup.clock import Clock
from groundup.data.conversations import Examples, Judged, read_judged, read_preferences
from groundup.data.turn_rows import TurnRows, kto_rows
from groundup.errors import UserError
from groundup.files import file_atomically
from groundup.model.decoder import Decoder
from groundup.model.lora import adapters_off
from groundup.model.tensor_file import save_tensors
from groundup.objective.preference import beta_of, preference
from groundup.objective.statistics import Statistics
from groundup.pipeline.tuning.examples import (
    check_unchanged,
    encode_judged,
    encoded,
    pair_rows,
    read_parts,
    say_rows,
)
from groundup.pipeline.tuning.finish import save_policy
from groundup.pipeline.tuning.job import TuneJob
from groundup.pipeline.tuning.lesson import Lesson, learn
from groundup.recipe_stages import DpoRecipe
from groundup.tune.reference import reference_table


def carry_on(job: TuneJob, clock: Clock) -> dict[str, Any]:
    """Take the run from wherever it stands to its model; the outcome."""
    settings = job.settings_of(DpoRecipe)
    preference(settings, torch.zeros(1, 2))  # an unknown loss is refused before anything takes time
    of_kto = settings.loss == "kto"
    train_examples, held_out_examples = (
        read_parts(job, read_judged, least=2) if of_kto else read_parts(job, read_preferences)
    )
    rows_of = _kto_rows if of_kto else pair_rows
    # The last token is a target only.
    rows, held_out = (rows_of(job, part, job.context + 1) for part in (train_examples, held_out_examples))
    say_rows(job, rows, held_out, "answers" if of_kto else "pairs")
    # The table of the reference goes by the numbers of examples.
    check_unchanged(job, rows.fingerprint, held_out.fingerprint)
    if of_kto:
        _check_whole_batches(job, rows.num_rows)
    clock.lap("read")
    model = job.arranged(job.start.model.to(job.device))
    tables = _reference_tables(job, model, {"train": rows, "held_out": held_out})
    clock.lap("reference")
    statistics = Statistics()
    lesson = Lesson(
        model,
        job.arranged,
        preference(settings, tables.get("train"), statistics),
        preference(settings, tables.get("held_out")),
        rows,
        held_out,
        "answers" if of_kto else "pairs",
        statistics,
    )
    figures = learn(job, lesson, clock)
    figures |= {
        "loss_name": settings.loss,
        "beta": beta_of(settings),
        "examples": len(train_examples),
        "held_out_examples": len(held_out_examples),
    }
    if job.is_first:
        save_policy(job, model, figures)
    clock.lap("finish")
    job.display.say(
        f"done: held-out loss {figures['loss_before']:.3f} -> {figures['loss']:.3f}; by its own reward "
        f"{figures['accuracy']:.1%} of {held_out.num_rows:,} {lesson.unit} are judged as people did",
        style="bold",
    )
    job.display.say(f"try     groundup chat {job.run.folder}")
    return figures


def _kto_rows(job: TuneJob, judged: Examples[Judged], length: int) -> TurnRows:
    turns = encoded(job.display, judged, partial(encode_judged, job.start.tokenizer))
    return kto_rows(turns, length, job.seed("order"))


def _check_whole_batches(job: TuneJob, num_rows: int) -> None:
    """UserError where KTO would estimate its KL divergence from a part of a batch: another part, another loss."""
    settings = job.train_recipe(num_rows)
    if settings.micro_batch not in (None, settings.batch_size):
        raise UserError(
            f"dpo.micro_batch={job.settings.micro_batch} divides a batch of {settings.batch_size}, but KTO "
            "estimates the KL divergence from the whole of it; leave it out, or choose a smaller dpo.batch_size"
        )
    if job.processes is not None and job.processes.world_size > 1:
        raise UserError(
            f"{job.processes.world_size} processes divide a batch, but KTO estimates the KL divergence from the "
            "whole of it; leave out --nproc, or choose another dpo.loss"
        )


def _reference_tables(job: TuneJob, model: Decoder, parts: dict[str, TurnRows]) -> dict[str, Tensor]:
    """What the reference says of each part's answers, (N, 2); kept in the run's folder for a resumed run."""
    file = job.run.folder / "reference.safetensors"
    if job.settings_of(DpoRecipe).loss == "simpo":
        return {}
    if not file.is_file():
        with adapters_off(model):
            tables = {
                name: reference_table(model, rows, device=job.device, precision=job.precision)
                for name, rows in parts.items()
            }
        if not job.is_first:
            return tables
        with file_atomically(file) as temporary:
            save_tensors(tables, temporary)
    return load_file(file)
