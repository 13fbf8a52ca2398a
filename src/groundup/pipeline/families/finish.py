"""The end of a family's run: the evaluation, the model folder with its card, the outcome and the report."""

import math
from typing import Any

import psutil

from groundup.clock import Clock
from groundup.evaluate.rows import RowsEvaluation, evaluate_rates, evaluate_rows
from groundup.model import folder as model_folder
from groundup.model.base import Model
from groundup.pipeline.counting import bigram_bits_per_byte
from groundup.pipeline.families.card import finished_card
from groundup.pipeline.families.job import FamilyJob
from groundup.pipeline.numbers import human, seconds_text
from groundup.pipeline.prepare import open_tokens
from groundup.plan.energy import energy_wh
from groundup.shape import family
from groundup.studio.report import write_report
from groundup.train.checkpoints import TrainState
from groundup.train.peak_memory import peak_bytes


def finish(job: FamilyJob, model: Model, state: TrainState, clock: Clock) -> dict[str, Any]:
    """Evaluate, and write `model/`, `outcome.json` (which marks the run as finished) and `report.html`."""
    clock.lap("train")
    with job.display.stage("evaluating", 1.0) as progress:
        found = evaluate_rows(
            model,
            job.asking,
            job.rows.held_out,
            device=job.hardware.device,
            precision=job.plan.precision,
            on_progress=progress,
        )
        rates = evaluate_rates(job.asking, job.rows.seen, job.rows.held_out)
    clock.lap("evaluate")
    written = job.run.read_json(job.run.plan_file)
    clock.stages |= written["stages"] | {"train": max(clock.stages["train"], state.seconds)}
    outcome = _outcome(job, found, rates, state, clock)
    card = finished_card(job.recipe, written, outcome)
    model_folder.save(job.run.model, model, job.tokenizer, card)
    job.run.save_outcome(outcome)
    write_report(job.run)
    _say(job, outcome)
    return outcome


def _outcome(
    job: FamilyJob, found: RowsEvaluation, rates: RowsEvaluation, state: TrainState, clock: Clock
) -> dict[str, Any]:
    plan = job.plan
    rows = state.windows
    outcome = {
        "run": str(job.run.folder),
        "family": plan.shape.family,
        "parameters": plan.parameters,
        "steps": state.step,
        "stopped_early": state.stopped_early,
        "best_step": state.kept_step,
        "targets": state.tokens,
        "tokens": rows * plan.row_tokens,
        "epochs": rows / job.rows.num_train,
        "flops": plan.flops * rows * plan.row_tokens / plan.tokens,
        "loss": found.loss,
        "perplexity": found.perplexity,
        "accuracy": found.accuracy,
        "baseline_loss": rates.loss,
        "baseline_accuracy": rates.accuracy,
        "evaluated_targets": found.targets,
        "train_seconds": state.seconds,
        "total_seconds": sum(clock.stages.values()),
        "tokens_per_second": rows * plan.row_tokens / max(state.seconds, 1e-9),
        "peak_bytes": peak_bytes(job.hardware.device),
        "energy_wh": energy_wh(job.hardware, sum(clock.stages.values())),
        "load_average": psutil.getloadavg()[0],
        "stages": dict(clock.stages),
    }
    if job.objective.in_nats_per_token and job.rows.bytes_per_token:
        outcome["bits_per_byte"] = found.loss / math.log(2) / job.rows.bytes_per_token
        outcome["baseline_bits_per_byte"] = rates.loss / math.log(2) / job.rows.bytes_per_token
        assert job.tokenizer is not None, "text has tokens"
        outcome["bigram_bits_per_byte"] = bigram_bits_per_byte(open_tokens(job.run), job.tokenizer)
    return outcome


def _say(job: FamilyJob, outcome: dict[str, Any]) -> None:
    bits = outcome.get("bits_per_byte")
    figures = [f"loss {outcome['loss']:.3f} (by rates alone {outcome['baseline_loss']:.3f})"]
    if bits is not None:
        figures.append(f"{bits:.3f} bits per byte ({outcome['baseline_bits_per_byte']:.3f})")
    if outcome["accuracy"] is not None:
        figures.append(f"{outcome['accuracy']:.1%} right ({outcome['baseline_accuracy']:.1%})")
    job.display.say(
        f"done: {', '.join(figures)} on held-out rows; {human(outcome['tokens'])} tokens in "
        f"{seconds_text(outcome['train_seconds'])}",
        style="bold",
    )
    job.display.say(f"model   {job.run.model}")
    job.display.say(f"report  {job.run.report_file}")
    if hint := family(job.plan.shape.family).example:
        job.display.say(f"try     {hint.format(run=job.run.folder)}")
