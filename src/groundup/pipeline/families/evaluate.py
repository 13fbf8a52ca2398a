"""`groundup eval` of a family's run: its own questions about its held-out rows."""

from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.evaluate.rows import evaluate_rates, evaluate_rows
from groundup.model.folder import load_weights
from groundup.pipeline.display import Display
from groundup.pipeline.families.run import load_job
from groundup.run import Run
from groundup.shape import family


def is_family_run(folder: Path) -> bool:
    """Whether a run's folder holds a model that is trained on rows, as no decoder is."""
    traits = family(Run(folder).recipe.model.family) if Run(folder).recipe_file.is_file() else None
    return traits is not None and not traits.is_decoder and traits.examples != "words"


def evaluate_family_run(folder: Path, display: Display) -> dict[str, Any]:
    """Loss, accuracy and perplexity of the run's model on its held-out rows in float32, and of rates alone.

    UserError where the run is not finished or its data is gone.
    """
    run = Run.open(folder)
    if not run.finished:
        raise UserError(
            f"the run in {folder} is not finished; continue it with `groundup train --resume --out {folder}`"
        )
    job = load_job(run, display)
    with display.stage("evaluating held-out rows", 1.0) as progress:
        found = evaluate_rows(
            load_weights(folder),
            job.asking,
            job.rows.held_out,
            device="cpu",
            precision="fp32",
            on_progress=progress,
        )
    rates = evaluate_rates(job.asking, job.rows.seen, job.rows.held_out)
    return {
        "loss": found.loss,
        "perplexity": found.perplexity,
        "accuracy": found.accuracy,
        "targets": found.targets,
        "baseline_loss": rates.loss,
        "baseline_accuracy": rates.accuracy,
    }
