"""`groundup eval`: the figures of a model, or of several together, on held-out text or on any other."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from groundup.data import Shards
from groundup.errors import UserError
from groundup.evaluate.ensemble import EnsembleEvaluation, evaluate_ensemble
from groundup.model.folder import LoadedModel, load
from groundup.pipeline.display import Display
from groundup.pipeline.stored_models import require_one_tokenizer
from groundup.run import Run
from groundup.tokenizer import Tokenizer


class _Text(NamedTuple):
    """Tokens (N,), what they are called, and the border within which each is predicted, if there is one."""

    name: str
    tokens: npt.NDArray[np.integer]
    border: int | None = None


def evaluate_run(
    folder: Path, text: Path | None, display: Display, others: Sequence[Path] = ()
) -> EnsembleEvaluation:
    """Evaluate the model in a run's or model folder, in float32, alone or with others of its tokenizer.

    UserError where there is no text, and for a model that reads other ids.
    """
    if text is not None and not text.is_file():
        raise UserError(f"--text {text} is not a file; name a text file")
    loaded = load(folder)
    members = [loaded.model, *(_other(other, loaded).model for other in others)]
    read = _held_out(folder, loaded.tokenizer) if text is None else _document(text, loaded.tokenizer)
    with display.stage(f"evaluating {read.name}", 1.0) as progress:
        return evaluate_ensemble(
            members,
            read.tokens,
            loaded.tokenizer.byte_lengths,
            device="cpu",
            precision="fp32",
            end_of_text=read.border,
            on_progress=progress,
        )


def _other(folder: Path, first: LoadedModel) -> LoadedModel:
    other = load(folder)
    require_one_tokenizer(first.tokenizer, other.tokenizer, folder)
    return other


def _document(text: Path, tokenizer: Tokenizer) -> _Text:
    ids = [tokenizer.end_of_text], tokenizer.encode_array(text.read_bytes())
    return _Text(str(text), np.concatenate(ids).astype(np.int64))


def _held_out(folder: Path, tokenizer: Tokenizer) -> _Text:
    run = Run(folder)
    shards = run.shards / "held-out"
    if not shards.exists():
        raise UserError(
            f"{folder} has no held-out text (its cache was emptied, or it is no run); name one with --text"
        )
    held_out = Shards.open(shards)
    border = tokenizer.end_of_text if run.recipe.data.packing == "documents" else None
    return _Text("the held-out text", held_out.read(0, held_out.num_tokens), border)
