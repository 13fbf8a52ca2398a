"""Hugging Face's `pre_tokenizer`: the part of tokenizer.json that cuts text, as our patterns and back."""

from collections.abc import Sequence
from typing import Any

import regex

from groundup.errors import UserError
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.portable import check_portable
from groundup.tokenizer.pretokenize import PATTERNS, resolve_pattern

_WHOLE = r"[\s\S]+"
"""The pattern of files that do not cut at all."""


def read_pre_tokenizer(content: Any) -> tuple[tuple[str, ...], bool]:
    """The patterns in order, and whether a space is put in front; ValueError or UserError names what is not read.

    Read are ByteLevel, alone (GPT-2) or after any number of Split and Digits (Llama 3, Qwen, DeepSeek, StarCoder).
    """
    steps = _flat(content)
    if not steps or steps[-1].get("type") != "ByteLevel":
        raise ValueError("its pre_tokenizer does not end with ByteLevel")
    *cuts, byte_level = steps
    patterns = [_pattern(step) for step in cuts]
    add_prefix_space = bool(byte_level.get("add_prefix_space", True))
    if add_prefix_space and patterns:
        raise ValueError("its pre_tokenizer sets add_prefix_space after a split, a space before each piece")
    if byte_level.get("use_regex", True):
        patterns.append(PATTERNS["gpt2"])
    return tuple(patterns or [_WHOLE]), add_prefix_space


def _flat(step: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of sequences, also of sequences in sequences."""
    if step["type"] == "Sequence":
        return [inner for outer in step["pretokenizers"] for inner in _flat(outer)]
    return [step]


def _pattern(step: dict[str, Any]) -> str:
    match step:
        case {
            "type": "Split",
            "pattern": {"Regex": str(pattern)},
            "behavior": str(behavior),
            "invert": bool(invert),
        }:
            pass
        case {
            "type": "Split",
            "pattern": {"String": str(text)},
            "behavior": str(behavior),
            "invert": bool(invert),
        }:
            pattern = regex.escape(text, special_only=True)
        case {"type": "Digits"}:
            return r"\p{N}" if step.get("individual_digits") else r"\p{N}+"
        case {"type": name}:
            raise ValueError(f"its pre_tokenizer has {name} before ByteLevel")
        case _:
            raise ValueError(f"its pre_tokenizer has {step}")
    # To remove all but the matches changes nothing where the matches leave nothing between them.
    if (behavior, invert) != ("Isolated", False) and not (
        (behavior, invert) == ("Removed", True) and pattern in PATTERNS.values()
    ):
        raise ValueError(f"its pre_tokenizer has a Split with behavior {behavior}, invert {str(invert).lower()}")
    check_portable(pattern)
    # A pattern of letters only would be taken for the name of one.
    return resolve_pattern(f"(?:{pattern})" if regex.fullmatch(r"[\w-]*", pattern) else pattern)


def write_pre_tokenizer(definition: Definition) -> dict[str, Any]:
    """The `pre_tokenizer` that cuts as the definition says; UserError if Hugging Face has none that does."""
    if definition.add_prefix_space:
        if definition.patterns not in ((PATTERNS["gpt2"],), (_WHOLE,)):
            raise UserError(
                "Hugging Face's files have add_prefix_space only with the pattern gpt2; save without it"
            )
        return byte_level(add_prefix_space=True, use_regex=definition.pattern == PATTERNS["gpt2"])
    return {"type": "Sequence", "pretokenizers": [*_splits(definition.patterns), byte_level()]}


def _splits(patterns: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]


def byte_level(add_prefix_space: bool = False, use_regex: bool = False) -> dict[str, Any]:
    """Hugging Face's ByteLevel, as a pre-tokenizer or as a decoder."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }
