"""Hugging Face's tokenizer.json, in and out."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

from groundup.errors import UserError
from groundup.files import write_json
from groundup.tokenizer.alphabet import all_from_characters, to_characters
from groundup.tokenizer.definition import Definition, Usage, check_tables, end_of_text, standard_vocabulary
from groundup.tokenizer.model_folder import (
    check_added_token,
    read_chat_templates,
    read_json,
    read_roles,
    write_config,
)
from groundup.tokenizer.pre_tokenizers import byte_level, read_pre_tokenizer, write_pre_tokenizer


def write_folder(folder: Path, definition: Definition, model_max_length: int | None = None) -> None:
    """Write tokenizer.json and what stands beside it into `folder`, so that `transformers` gives the same ids.

    Args:
        folder: made if it does not exist.
        definition: the end-of-text token is said to begin and end texts where the usage names no roles.
        model_max_length: tokens that the model takes at most, if that is known.
    """
    content = _tokenizer_json(definition)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", content)
    usage = definition.usage
    if not usage.roles and (name := end_of_text(definition.special_tokens)) is not None:
        usage = replace(usage, roles=dict.fromkeys(("bos_token", "eos_token"), name))
    write_config(folder, usage, add_prefix_space=definition.add_prefix_space, model_max_length=model_max_length)


def _tokenizer_json(definition: Definition) -> dict[str, Any]:
    special = definition.special_tokens
    added = [
        {"id": number, "content": token, "special": token not in definition.usage.spoken_tokens}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for token, number in sorted(special.items(), key=lambda item: item[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if definition.compose else None,
        "pre_tokenizer": write_pre_tokenizer(definition),
        "post_processor": definition.usage.post_processor,
        "decoder": byte_level(),
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


def read_file(file: Path, content: Any = None) -> Definition:
    """Read a byte-level BPE tokenizer.json and what stands beside it; UserError names what is not understood.

    Every added token counts as special. What the post-processor puts around a text is kept, but `encode` adds
    nothing.

    Args:
        file: the tokenizer.json.
        content: its content, if that has been read.
    """
    content = read_json(file) if content is None else content
    try:
        definition = _definition(content)
    except KeyError as error:
        raise _refusal(file, f"{error} is missing") from None
    except (ValueError, TypeError, AttributeError, RecursionError, UserError) as error:
        raise _refusal(file, str(error)) from None
    roles = read_roles(file.parent, definition.special_tokens)
    usage = replace(definition.usage, roles=roles, chat_templates=read_chat_templates(file.parent))
    return replace(definition, usage=usage)


def _definition(content: Any) -> Definition:
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"its model is {model['type']}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise ValueError(f"its model sets {option} = {model[option]!r}")
    _check_decoder(content["decoder"])
    compose = _composes(content.get("normalizer"))
    added = content.get("added_tokens", [])
    special_tokens = _special_tokens(added, model["vocab"], compose)
    names = [token for token in model["vocab"] if token not in special_tokens]
    bytes_of = dict(zip(names, all_from_characters(names), strict=True))
    vocabulary = {bytes_of[token]: model["vocab"][token] for token in names}
    parts = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    try:
        merges = tuple((bytes_of[left], bytes_of[right]) for left, right in parts)
    except KeyError as error:
        raise ValueError(f"its vocabulary lacks {error}, which it merges") from None
    check_tables(vocabulary, merges, special_tokens)
    (pattern, *further_patterns), add_prefix_space = read_pre_tokenizer(content["pre_tokenizer"])
    return Definition(
        pattern=pattern,
        further_patterns=tuple(further_patterns),
        merges=merges,
        special_tokens=special_tokens,
        vocabulary=None if vocabulary == standard_vocabulary(merges) else vocabulary,
        whole_pieces=bool(model.get("ignore_merges")),
        compose=compose,
        add_prefix_space=add_prefix_space,
        usage=Usage(
            spoken_tokens=frozenset(token["content"] for token in added if not token.get("special", True)),
            post_processor=content.get("post_processor"),
        ),
    )


def _refusal(file: Path, reason: str) -> UserError:
    return UserError(f"{file} is not a byte-level BPE tokenizer that groundup reads: {reason}")


def _special_tokens(
    added_tokens: list[dict[str, Any]], vocabulary: dict[str, int], compose: bool
) -> dict[str, int]:
    for token in added_tokens:
        content = token["content"]
        check_added_token(token)
        if compose and token.get("normalized") and not is_normalized("NFC", content):
            raise ValueError(f"its added token {content!r} is normalized to another text")
        if vocabulary.get(content, token["id"]) != token["id"]:
            raise ValueError(f"its added token {content!r} has two ids, {token['id']} and {vocabulary[content]}")
    return {token["content"]: token["id"] for token in added_tokens}


def _check_decoder(decoder: dict[str, Any]) -> None:
    inner = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if [step["type"] for step in inner] != ["ByteLevel"]:
        raise ValueError(f"its decoder is {' and '.join(step['type'] for step in inner)}")


def _composes(normalizer: dict[str, Any] | None) -> bool:
    """Whether the normalizer is NFC, or a sequence of that; an empty sequence is none."""
    if normalizer is None:
        return False
    if normalizer["type"] == "Sequence":
        return True in [_composes(step) for step in normalizer["normalizers"]]
    if normalizer["type"] != "NFC":
        raise ValueError(f"its normalizer is {normalizer['type']}")
    return True
