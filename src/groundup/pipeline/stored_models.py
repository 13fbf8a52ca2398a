"""A model by any name that it goes by: a model folder, a run, one checkpoint of a run, or a GGUF file."""

from pathlib import Path
from typing import NamedTuple

from groundup.errors import UserError
from groundup.model.base import Model
from groundup.model.folder import has_tokenizer, load_any, load_weights
from groundup.pipeline.export import open_checkpoint
from groundup.tokenizer.difference import difference
from groundup.tokenizer.load import AnyTokenizer


class StoredModel(NamedTuple):
    """A model of any family, in evaluation mode, with its tokenizer if it reads text, and where it was found."""

    source: Path
    model: Model
    tokenizer: AnyTokenizer | None


def open_model(source: Path) -> StoredModel:
    """Read it; UserError where there is none."""
    if source.parent.name == "checkpoints":
        return StoredModel(source, *open_checkpoint(source))
    if has_tokenizer(source):
        loaded = load_any(source)
        return StoredModel(source, loaded.model, loaded.tokenizer)
    return StoredModel(source, load_weights(source), None)


def require_one_tokenizer(one: AnyTokenizer, other: AnyTokenizer, other_source: Path) -> None:
    """UserError, naming the first difference, where two models do not read the same ids."""
    if found := difference(other, one):
        raise UserError(
            f"the tokenizer of {other_source} is not that of the first model: it has {found}; name models that "
            "were trained with one tokenizer"
        )
