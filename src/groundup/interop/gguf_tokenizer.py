"""The tokenizer in a GGUF file: byte-level BPE under llama.cpp's names. Nothing here needs torch."""

from collections.abc import Callable, Sequence
from typing import Any

from groundup.tokenizer.alphabet import all_from_characters
from groundup.tokenizer.definition import Definition, Usage, check_tables, standard_vocabulary
from groundup.tokenizer.pretokenize import PATTERNS

# How text is cut, by llama.cpp's name for it.
_CUTS: dict[str, tuple[str, ...]] = {
    "gpt-2": (PATTERNS["gpt2"],),
    "smollm": (r"\p{N}", PATTERNS["gpt2"]),
    "llama-bpe": (PATTERNS["cl100k"],),
    "qwen2": (PATTERNS["qwen2"],),
    "gpt-4o": (PATTERNS["o200k"],),
}
# What else such tokenizers do, which GGUF does not say: pieces that are tokens are not merged; NFC comes first.
_WHOLE_PIECES, _COMPOSE = ("llama-bpe",), ("qwen2",)
# Of `tokenizer.ggml.token_type`; tokens of other kinds are places that nothing uses.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_SPECIAL = (_UNKNOWN, _CONTROL, _USER_DEFINED)
_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # sic
    "pad_token": "padding_token_id",
}


def definition_from(value: Callable[[str], Any]) -> Definition:
    """What `value(key)` says of the tokenizer (None: nothing); ValueError where it is another kind than ours."""
    if (model := value("tokenizer.ggml.model")) != "gpt2":
        raise ValueError(f"its tokenizer is {model!r}, not byte-level BPE ('gpt2')")
    if (cut := value("tokenizer.ggml.pre")) not in _CUTS:
        raise ValueError(f"its tokenizer cuts text as {cut!r} does; groundup knows {', '.join(_CUTS)}")
    tokens: list[str] = value("tokenizer.ggml.tokens")
    kinds: list[int] = value("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    special_tokens = {tokens[number]: number for number in _of_kind(kinds, _SPECIAL)}
    ordinary = _of_kind(kinds, (_NORMAL,))
    vocabulary = dict(zip(all_from_characters([tokens[number] for number in ordinary]), ordinary, strict=True))
    parts = all_from_characters([part for merge in value("tokenizer.ggml.merges") for part in merge.split(" ")])
    merges = tuple(zip(parts[::2], parts[1::2], strict=True))
    check_tables(vocabulary, merges, special_tokens)
    pattern, *further_patterns = _CUTS[cut]
    numbers = {role: value(f"tokenizer.ggml.{key}") for role, key in _ROLES.items()}
    template = value("tokenizer.chat_template")
    return Definition(
        pattern=pattern,
        further_patterns=tuple(further_patterns),
        merges=merges,
        special_tokens=special_tokens,
        vocabulary=None if vocabulary == standard_vocabulary(merges) else vocabulary,
        whole_pieces=cut in _WHOLE_PIECES,
        compose=cut in _COMPOSE,
        add_prefix_space=bool(value("tokenizer.ggml.add_space_prefix")),
        usage=Usage(
            roles={role: tokens[number] for role, number in numbers.items() if number is not None},
            chat_templates={} if template is None else {"default": template},
            spoken_tokens=frozenset(tokens[number] for number in _of_kind(kinds, (_USER_DEFINED,))),
        ),
    )


def _of_kind(kinds: Sequence[int], wanted: Sequence[int]) -> list[int]:
    return [number for number, kind in enumerate(kinds) if kind in wanted]
