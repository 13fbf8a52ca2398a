"""Data sets of the Hugging Face hub, or local folders in its layout, streamed."""

from collections.abc import Iterator
from typing import Any

from groundup.data.formats import field_of
from groundup.data.text import Part
from groundup.errors import UserError

PREFIX = "hf:"
DEFAULT_SPLIT = "train"


def read_hub(source: str, *, field: str = "text") -> Iterator[Part]:
    """Yield `field` of each row of `hf:NAME[:SPLIT]`; errors as `hub_records`."""
    for where, row in hub_records(source):
        yield Part(field_of(row, field, where))


def hub_records(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands, and what it holds, of each row of `hf:NAME[:SPLIT]`.

    SPLIT is `train` by default, NAME may be a local folder. Nothing is downloaded ahead of what is read. Needs
    the extra `hub`; UserError without it, and for what cannot be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{source}: needs Hugging Face datasets: pip install 'groundup[hub]'") from error

    name, _, split = source.removeprefix(PREFIX).partition(":")
    if not name:
        raise UserError(f"{source}: names no data set; write hf:NAME or hf:NAME:SPLIT")
    try:
        rows = iter(datasets.load_dataset(name, split=split or DEFAULT_SPLIT, streaming=True))
        for number, row in enumerate(rows, start=1):
            yield f"{source}, row {number}", row
    except Exception as error:  # datasets lets through the errors of half a dozen libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{source}: cannot be read: {reason}; check the name, the split and the network"
        ) from error
