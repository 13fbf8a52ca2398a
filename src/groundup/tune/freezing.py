"""Which parts of a pretrained model stay as they are while it learns a task.

`none` trains all; `embeddings` keeps what stands before the blocks, `first:N` that and the first N blocks; `all`
keeps the whole model, so that only what is put on top of it learns (Howard and Ruder 2018, arXiv:1801.06146, and
Peters et al. 2019, arXiv:1903.05987, compare them).
"""

from collections.abc import Iterator
from itertools import takewhile

from torch import nn

from groundup.errors import UserError, nearest

MODES = ("all", "embeddings", "first:N", "none")
_FIRST = "first:"


def check_mode(mode: str) -> None:
    """UserError for what is no mode of freezing."""
    if mode.startswith(_FIRST) and mode.removeprefix(_FIRST).isdecimal() and int(mode.removeprefix(_FIRST)):
        return
    if mode not in MODES or mode == "first:N":
        raise UserError(f"--freeze {mode} is unknown{nearest(mode, MODES)}; N is a whole number from 1 on")


def freeze(model: nn.Module, mode: str) -> list[str]:
    """Let the optimizer leave some of `model`'s parts alone; their names, as in the model.

    Raises:
        UserError: the mode is unknown, or the model has not so many blocks, or no embeddings of its own.
    """
    check_mode(mode)
    if mode == "none":
        return []
    parts = dict(_with_parameters(model.named_children()) if mode == "all" else _first_parts(model, mode))
    for parameter in model.parameters() if mode == "all" else ():
        parameter.requires_grad_(False)
    for part in parts.values():
        part.requires_grad_(False)
    return list(parts)


def _first_parts(model: nn.Module, mode: str) -> Iterator[tuple[str, nn.Module]]:
    """What stands before the blocks, and of those the first ones."""
    embeddings = _embeddings(model)
    if not embeddings and (mode == "embeddings" or not blocks_of(model)):
        raise UserError(f"--freeze {mode}: this model has no embeddings apart from the rest; choose all or none")
    yield from embeddings
    if mode == "embeddings":
        return
    count, blocks = int(mode.removeprefix(_FIRST)), blocks_of(model)
    if count > len(blocks):
        hint = f"choose at most first:{len(blocks)}" if blocks else "choose all, embeddings or none"
        raise UserError(f"--freeze {mode}: the model has {len(blocks)} blocks; {hint}")
    yield from blocks[:count]


def blocks_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The model's blocks by name, from the input on; none where it is not made of blocks."""
    names = {id(module): name for name, module in model.named_modules()}
    return [(names[id(block)], block) for block in getattr(model, "blocks", ())]


def _embeddings(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts that stand before the blocks; of a model without blocks its tables of embeddings."""
    of_blocks = {id(parameter) for _, block in blocks_of(model) for parameter in block.parameters()}
    parts = _with_parameters(model.named_children())
    if not of_blocks:
        return [(name, part) for name, part in parts if isinstance(part, nn.Embedding)]
    return list(takewhile(lambda part: not any(id(one) in of_blocks for one in part[1].parameters()), parts))


def _with_parameters(parts: Iterator[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    return ((name, part) for name, part in parts if next(part.parameters(), None) is not None)
