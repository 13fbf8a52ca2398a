"""The end of a run: the last evaluation, the model folder with its card, the outcome and the report."""

from typing import Any

import psutil

from groundup.clock import Clock
from groundup.evaluate.bits import Evaluation, evaluate_tokens
from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.pipeline.calibration import is_busy, remember_run, text_names
from groundup.pipeline.card import model_card
from groundup.pipeline.counting import bigram_bits_per_byte
from groundup.pipeline.hooks import held_out_tokens
from groundup.pipeline.train import Job
from groundup.plan.calibration import Corrections, PastRun, TimedStep
from groundup.plan.energy import energy_wh
from groundup.plan.flops import train_flops_per_token
from groundup.plan.loss import SMALL_RUNS, effective_tokens
from groundup.plan.reading import evaluation_tokens
from groundup.run import read_rows
from groundup.studio.report import write_report
from groundup.train.checkpoints import TrainState
from groundup.train.peak_memory import peak_bytes


def finish(job: Job, model: Decoder, state: TrainState, clock: Clock) -> dict[str, Any]:
    """Evaluate, and write `model/`, `outcome.json` (which marks the run as finished) and `report.html`."""
    run = job.run
    with job.display.stage("evaluating", None):
        evaluation = _evaluate(job, model, state)
    clock.lap("evaluate")
    outcome = _outcome(job, evaluation, state, clock)
    samples = [row for row in read_rows(run.samples_file) if row["step"] == state.kept_step]
    options = job.recipe.sample
    model_folder.save(
        run.model,
        model,
        job.tokenizer,
        model_card(job.recipe, run.read_json(run.plan_file), outcome, samples),
        {"temperature": options.temperature, "top_k": options.top_k},
    )
    clock.lap("save")
    outcome = _outcome(job, evaluation, state, clock)
    run.save_outcome(outcome)
    if job.processes is None:
        _remember(job, outcome)
    write_report(run)
    return outcome


def _remember(job: Job, outcome: dict[str, Any]) -> None:
    """Let the next plan for this machine learn from how this one came out."""
    plan, train = job.plan, job.recipe.train
    step = TimedStep(
        plan.shape,
        plan.batch_size,
        plan.precision,
        train.optimizer,
        plan.recompute,
        plan.batch_size * plan.shape.context / outcome["tokens_per_second"],
    )
    # What the speed formula does not describe is no measurement of it, nor is what a busy machine shows.
    whole = plan.micro_batch == plan.batch_size and not train.batch_warmup
    described = whole and not plan.compile and not is_busy(job.hardware)
    written = job.run.read_json(job.run.plan_file)
    corrections = Corrections(**written.get("corrections", {}))
    # A run that was slower than planned saw fewer tokens: what the law says of those that it saw counts.
    fresh = effective_tokens(outcome["tokens"], job.tokens.train.num_tokens)
    expected = SMALL_RUNS.bits_per_byte(plan.law_parameters, fresh, written["corpus"]["compressibility"])
    run = PastRun(
        text_names(job.recipe.data.sources),
        expected,
        outcome["bits_per_byte"],
        plan.peak_bytes / corrections.peak,
        outcome["peak_bytes"],
    )
    remember_run(job.hardware, train, run, step if described else None)


def _evaluate(job: Job, model: Decoder, state: TrainState) -> Evaluation:
    """All of the held-out text, or as much as a small share of the time allows."""
    limit = evaluation_tokens(state.seconds, state.tokens / max(state.seconds, 1e-9))
    tokens = held_out_tokens(job.tokens.held_out, limit, job.plan.shape.context)
    return evaluate_tokens(
        model,
        tokens,
        job.tokenizer.byte_lengths,
        device=job.hardware.device,
        precision=job.plan.precision,
        end_of_text=job.border,
    )


def _outcome(job: Job, evaluation: Evaluation, state: TrainState, clock: Clock) -> dict[str, Any]:
    plan, hardware = job.plan, job.hardware
    flops = state.tokens * train_flops_per_token(plan.shape)
    total_seconds = sum(clock.stages.values())
    return {
        "run": str(job.run.folder),
        "parameters": plan.parameters,
        "steps": state.step,
        "stopped_early": state.stopped_early,
        "best_step": state.kept_step,
        "tokens": state.tokens,
        "epochs": state.tokens / job.tokens.train.num_tokens,
        "flops": flops,
        "loss": evaluation.loss,
        "bits_per_byte": evaluation.bits_per_byte,
        "bigram_bits_per_byte": bigram_bits_per_byte(job.tokens, job.tokenizer),
        "perplexity": evaluation.perplexity,
        "bytes_per_token": evaluation.bytes_per_token,
        "evaluated_bytes": evaluation.bytes,
        "train_seconds": state.seconds,
        "total_seconds": total_seconds,
        "tokens_per_second": state.tokens / state.seconds,
        "utilisation": flops / state.seconds / (plan.devices * hardware.flops(plan.precision)),
        "peak_bytes": peak_bytes(),
        "energy_wh": plan.devices * energy_wh(hardware, total_seconds),
        "devices": plan.devices,
        "load_average": psutil.getloadavg()[0],
        "stall_seconds": {
            "data": state.data_seconds,
            "checkpoints": state.checkpoint_seconds,
            "evaluation": state.evaluation_seconds,
        },
        "stages": dict(clock.stages),
    }
