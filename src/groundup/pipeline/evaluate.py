"""`groundup eval`: the figures of a model on its held-out text or on any other."""

from pathlib import Path

from groundup.data import Shards
from groundup.errors import UserError
from groundup.evaluate.bits import Evaluation, evaluate_text, evaluate_tokens
from groundup.model.folder import load
from groundup.pipeline.display import Display
from groundup.run import Run


def evaluate_run(folder: Path, text: Path | None, display: Display) -> Evaluation:
    """Evaluate the model in a run's or model folder, in float32; UserError where there is no text."""
    if text is not None and not text.is_file():
        raise UserError(f"--text {text} is not a file; name a text file")
    loaded = load(folder)
    if text is not None:
        with display.stage(f"evaluating {text}", 1.0) as progress:
            return evaluate_text(loaded.model, loaded.tokenizer, text.read_bytes(), progress)
    run = Run(folder)
    shards = run.shards / "held-out"
    if not shards.exists():
        raise UserError(
            f"{folder} has no held-out text (its cache was emptied, or it is no run); name one with --text"
        )
    held_out = Shards.open(shards)
    with display.stage("evaluating the held-out text", 1.0) as progress:
        return evaluate_tokens(
            loaded.model,
            held_out.read(0, held_out.num_tokens),
            loaded.tokenizer.byte_lengths,
            device="cpu",
            precision="fp32",
            end_of_text=loaded.tokenizer.end_of_text if run.recipe.data.packing == "documents" else None,
            on_progress=progress,
        )
