"""Hugging Face's tokenizer.json and tokenizer_config.json, in and out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.errors import UserError
from groundup.files import write_json
from groundup.tokenizer.alphabet import from_characters, to_characters
from groundup.tokenizer.definition import Definition, end_of_text, standard_vocabulary
from groundup.tokenizer.pretokenize import PATTERNS, resolve_pattern


def write_definition(folder: Path, definition: Definition, model_max_length: int | None = None) -> None:
    """Write both files into `folder`, which is made if need be, so that `transformers` gives the same ids."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", _tokenizer_json(definition))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    if (name := end_of_text(definition.special_tokens)) is not None:
        config |= {"bos_token": name, "eos_token": name}
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    write_json(folder / "tokenizer_config.json", config)


def _tokenizer_json(definition: Definition) -> dict[str, Any]:
    special = definition.special_tokens
    added = [
        {"id": number, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token, number in sorted(special.items(), key=lambda item: item[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if definition.compose else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": definition.pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                _byte_level(use_regex=False),
            ],
        },
        "post_processor": None,
        "decoder": _byte_level(use_regex=False),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": definition.whole_pieces,
            # The special tokens stand here too: only then may their ids lie anywhere.
            "vocab": {to_characters(token): number for token, number in definition.ids.items()} | dict(special),
            "merges": [[to_characters(left), to_characters(right)] for left, right in definition.merges],
        },
    }


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def read_definition(path: Path) -> Definition:
    """Read a tokenizer.json, or that of a folder; UserError if it is not there or not byte-level BPE.

    Understood are the forms of GPT-2 (ByteLevel with its own pattern) and of Llama 3 and Qwen (one Split, then
    ByteLevel; NFC; `ignore_merges`). Every added token counts as special.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; give a tokenizer.json or its folder") from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); give a tokenizer.json or its folder") from None
    try:
        return _definition(content)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError, AttributeError, UserError) as error:
        reason = str(error)
    raise UserError(f"{file} is not a byte-level BPE tokenizer that groundup reads: {reason}")


def _definition(content: Any) -> Definition:
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"its model is {model['type']}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise ValueError(f"its model sets {option} = {model[option]!r}")
    if content["decoder"]["type"] != "ByteLevel":
        raise ValueError(f"its decoder is {content['decoder']['type']}")
    special_tokens = _special_tokens(content.get("added_tokens", []))
    merges = tuple(
        (from_characters(left), from_characters(right))
        for left, right in (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    )
    vocabulary = {
        from_characters(token): number for token, number in model["vocab"].items() if token not in special_tokens
    }
    _check(vocabulary, merges, special_tokens)
    return Definition(
        pattern=_pattern(content["pre_tokenizer"]),
        merges=merges,
        special_tokens=special_tokens,
        vocabulary=None if vocabulary == standard_vocabulary(merges) else vocabulary,
        whole_pieces=bool(model.get("ignore_merges")),
        compose=_composes(content.get("normalizer")),
    )


def _special_tokens(added_tokens: list[dict[str, Any]]) -> dict[str, int]:
    for token in added_tokens:
        for option in ("single_word", "lstrip", "rstrip"):
            if token.get(option):
                raise ValueError(f"its added token {token['content']!r} sets {option}")
    return {token["content"]: token["id"] for token in added_tokens}


def _check(
    vocabulary: Mapping[bytes, int],
    merges: tuple[tuple[bytes, bytes], ...],
    special_tokens: Mapping[str, int],
) -> None:
    numbers = [*vocabulary.values(), *special_tokens.values()]
    if not all(isinstance(number, int) and 0 <= number < 1 << 31 for number in numbers):
        raise ValueError("an id is not a number from 0 to 2^31 - 1")
    if len(set(numbers)) != len(numbers):
        raise ValueError("two of its tokens have the same id")
    if missing := [byte for byte in range(256) if bytes([byte]) not in vocabulary]:
        raise ValueError(f"its vocabulary lacks {len(missing)} of the 256 bytes, the first 0x{missing[0]:02X}")
    for left, right in merges:
        if not (left in vocabulary and right in vocabulary and left + right in vocabulary):
            raise ValueError(f"its vocabulary lacks a token of the merge {left!r} + {right!r}")


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    is_sequence = pre_tokenizer["type"] == "Sequence"
    match pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer]:
        case [{"type": "ByteLevel", "add_prefix_space": False, **rest}] if rest.get("use_regex", True):
            return PATTERNS["gpt2"]
        case [
            {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return resolve_pattern(pattern)
    raise ValueError("its pre_tokenizer is neither GPT-2's ByteLevel nor one isolating Split before ByteLevel")


def _composes(normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None:
        return False
    if normalizer["type"] != "NFC":
        raise ValueError(f"its normalizer is {normalizer['type']}")
    return True
