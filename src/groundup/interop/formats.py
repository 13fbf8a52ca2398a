"""Which format a family's folder has, and which family a folder holds. Nothing here needs torch.

The decoders share one format; another family has its own module, which has a `FORMAT`. Where nobody else knows the
family, the folder holds its shape and its tensors as they are (`own`).
"""

from importlib import import_module
from typing import Any

from groundup.errors import UserError
from groundup.interop import config
from groundup.interop.format import Format
from groundup.interop.own import OWN_MODEL_TYPE, own_format
from groundup.shape import Shape

_MODULES: dict[str, str] = {
    "gpt1": "groundup.interop.gpt1",
    "bert": "groundup.interop.bert",
    "xlnet": "groundup.interop.xlnet",
    "t5": "groundup.interop.t5",
}


def format_of(family: str) -> Format:
    """The format in which a family's models are written."""
    if family in config.ARCHITECTURES:
        return _decoder_format(family)
    if family in _MODULES:
        found: Format = import_module(_MODULES[family]).FORMAT
        return found
    return own_format(family)


def format_in(content: dict[str, Any]) -> Format:
    """The format that a `config.json` is in; UserError where none of ours reads it."""
    model_type = content.get("model_type")
    if model_type == OWN_MODEL_TYPE:
        return own_format(str(content["shape"]["family"]))
    formats = [format_of(family) for family in [*config.ARCHITECTURES, *_MODULES]]
    for known in formats:
        if model_type == known.model_type or model_type in known.also:
            return known
    names = sorted({known.model_type for known in formats})
    raise UserError(f"config.json has model_type={model_type!r}; groundup reads {', '.join(names)}")


def shape_from(content: dict[str, Any]) -> Shape:
    """The shape that a `config.json` of any format describes; UserError for what no family of ours computes."""
    return format_in(content).from_config(content)


def _decoder_format(family: str) -> Format:
    def to_tensors(shape: Shape, state: dict[str, Any]) -> dict[str, Any]:
        from groundup.interop.huggingface import to_tensors

        return to_tensors(shape, state)

    def from_tensors(shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
        from groundup.interop.huggingface import from_tensors

        return from_tensors(shape, tensors)

    return Format(
        model_type=family,
        family=family,
        to_config=lambda shape, special: config.to_config(shape, special["<|endoftext|>"]),
        from_config=config.from_config,
        to_tensors=to_tensors,
        from_tensors=from_tensors,
    )
