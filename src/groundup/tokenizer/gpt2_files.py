"""GPT-2's pair of files: vocab.json (token -> id) and merges.txt (a merge a line)."""

from pathlib import Path
from typing import Any

from groundup.errors import UserError, nearest
from groundup.tokenizer.alphabet import from_characters
from groundup.tokenizer.definition import Definition, Usage, check_tables, standard_vocabulary
from groundup.tokenizer.model_folder import (
    check_added_token,
    read_chat_templates,
    read_config,
    read_json,
    read_roles,
)
from groundup.tokenizer.pretokenize import resolve_pattern

_CLASSES = {"GPT2Tokenizer": ("gpt2", False), "Qwen2Tokenizer": ("qwen2", True)}
"""What `transformers` has in code for the tokenizers that it builds of such files: pattern, and whether NFC."""


def read_files(vocabulary_file: Path, merges_file: Path, pattern: str | None = None) -> Definition:
    """Read both files and what stands beside them; UserError if they are no byte-level BPE.

    Tokens that are neither a byte nor made by a merge are special, and so are those that tokenizer_config.json
    adds, or added_tokens.json if that adds none.

    Args:
        vocabulary_file: the vocab.json.
        merges_file: the merges.txt.
        pattern: by name or as a regular expression; None: that of the `tokenizer_class` in tokenizer_config.json,
            GPT-2's if that names none.
    """
    folder, numbers, merges = vocabulary_file.parent, read_json(vocabulary_file), _read_merges(merges_file)
    config = read_config(folder)
    default, compose = _class_rules(config, pattern)
    try:
        made = {left + right for left, right in merges}
        special_tokens = _added_tokens(folder, config)
        beside = config.get("added_tokens_decoder", {}).values()
        vocabulary: dict[bytes, int] = {}
        for characters, number in numbers.items():
            try:
                token = from_characters(characters)
            except ValueError:
                token = b""
            if token in made or len(token) == 1:
                vocabulary[token] = number
            else:
                special_tokens.setdefault(characters, number)
        check_tables(vocabulary, merges, special_tokens)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{vocabulary_file} and {merges_file.name} are not GPT-2's files: {error}") from None
    return Definition(
        pattern=resolve_pattern(pattern or default),
        merges=merges,
        special_tokens=special_tokens,
        vocabulary=None if vocabulary == standard_vocabulary(merges) else vocabulary,
        compose=compose,
        add_prefix_space=bool(config.get("add_prefix_space")),
        usage=Usage(
            roles=read_roles(folder, special_tokens),
            chat_templates=read_chat_templates(folder),
            spoken_tokens=frozenset(token["content"] for token in beside if not token.get("special", True)),
        ),
    )


def _read_merges(file: Path) -> tuple[tuple[bytes, bytes], ...]:
    """The merges in order of rank; a first line `#version: ...` is skipped."""
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}; vocab.json needs merges.txt beside it") from None
    merges = []
    for number, line in enumerate(lines, start=1):
        if (number == 1 and line.startswith("#version")) or not line.strip():
            continue
        try:
            left, right = line.split()
            merges.append((from_characters(left), from_characters(right)))
        except ValueError:
            raise UserError(f"{file}, line {number}: {line!r} is not two tokens in GPT-2's alphabet") from None
    return tuple(merges)


def _class_rules(config: dict[str, Any], pattern: str | None) -> tuple[str, bool]:
    """Pattern and NFC by the class that `transformers` would use."""
    name = str(config.get("tokenizer_class") or "GPT2Tokenizer").removesuffix("Fast")
    if name not in _CLASSES and pattern is None:
        raise UserError(
            f"tokenizer_class {name} does not tell how text is cut{nearest(name, _CLASSES)}; give a pattern"
        )
    return _CLASSES.get(name, ("gpt2", False))


def _added_tokens(folder: Path, config: dict[str, Any]) -> dict[str, int]:
    """Special tokens that stand beside the vocabulary, and their ids, from where `transformers` takes them."""
    if "added_tokens_decoder" not in config:
        return read_config(folder, "added_tokens.json")
    for token in config["added_tokens_decoder"].values():
        check_added_token(token)
    return {token["content"]: int(number) for number, token in config["added_tokens_decoder"].items()}
