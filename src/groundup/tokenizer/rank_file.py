"""tiktoken's rank files: a token a line, in base64, and its id, which is also the rank of the merge to it."""

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from groundup.errors import UserError
from groundup.files import write_atomically
from groundup.tokenizer import native
from groundup.tokenizer.definition import Definition, check_tables, standard_vocabulary
from groundup.tokenizer.pretokenize import resolve_pattern

_NEVER = 1 << 62  # the rank of neighbours that do not merge
_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")


@dataclass(frozen=True)
class _Encoding:
    """What OpenAI's library has in code beside the ranks: see `tiktoken_ext/openai_public.py`."""

    pattern: str
    num_ranks: int
    special_tokens: Mapping[str, int]
    sha256: str


_GPT2 = _Encoding(
    "gpt2",
    50_256,
    {"<|endoftext|>": 50_256},
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
)
_CL100K = _Encoding(
    "cl100k-tiktoken",
    100_256,
    {"<|endoftext|>": 100_257}
    | {name: 100_258 + number for number, name in enumerate(_FIM)}
    | {"<|endofprompt|>": 100_276},
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
)
_O200K = _Encoding(
    "o200k",
    199_998,
    {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
)
_ENCODINGS = {"gpt2": _GPT2, "cl100k": _CL100K, "o200k": _O200K}


def read_file(
    file: Path, pattern: str | None = None, special_tokens: Mapping[str, int] | Iterable[str] | None = None
) -> Definition:
    """Read a rank file; UserError if it is none, or if it is not OpenAI's and no pattern is given.

    tiktoken gives a piece that is in the vocabulary its id at once, and merges only other pieces. Merges alone do
    the same unless some token cannot be reached by them: then the definition says `whole_pieces`.

    Args:
        file: lines `base64 id`.
        pattern: how text is cut, by name ("cl100k" is read as tiktoken cuts) or as a regular expression; None:
            that of OpenAI's r50k, cl100k and o200k if the file is one of these.
        special_tokens: with their ids, or names that get the ids after the last; None: OpenAI's if the pattern is
            one of theirs and the file as long, else none.
    """
    content = file.read_bytes()
    ranks = _parse(file, content)
    if pattern is None:
        digest = sha256(content).hexdigest()
        encoding = next((known for known in _ENCODINGS.values() if known.sha256 == digest), None)
        if encoding is None:
            raise UserError(f"{file} does not say how text is cut; give a pattern, such as pattern='cl100k'")
    else:
        encoding = _ENCODINGS.get(pattern)
    if special_tokens is None:
        special_tokens = encoding.special_tokens if encoding and encoding.num_ranks == len(ranks) else {}
    if not isinstance(special_tokens, Mapping):
        first = max(ranks.values(), default=-1) + 1
        special_tokens = {token: first + number for number, token in enumerate(special_tokens)}
    merges, unreachable = recover_merges(ranks)
    try:
        check_tables(ranks, (), special_tokens)
    except ValueError as error:
        raise UserError(f"{file} cannot be used as a tokenizer: {error}") from None
    return Definition(
        pattern=resolve_pattern(encoding.pattern if encoding else str(pattern)),
        merges=merges,
        special_tokens=dict(special_tokens),
        vocabulary=None if ranks == standard_vocabulary(merges) else ranks,
        whole_pieces=bool(unreachable),
    )


def _parse(file: Path, content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token = a2b_base64(encoded, strict_mode=True)
            if token in ranks:
                raise UserError(f"{file}, line {number}: the token {token!r} stands there twice")
            ranks[token] = int(rank)
        except ValueError:
            raise UserError(f"{file}, line {number}: {line!r} is not a token in base64 and its rank") from None
    return ranks


def recover_merges(ranks: Mapping[bytes, int]) -> tuple[tuple[tuple[bytes, bytes], ...], list[bytes]]:
    """The merges that tiktoken's ranks stand for, in order of rank, and the tokens that no merge makes.

    tiktoken merges the neighbours whose bytes together have the lowest rank, the leftmost among equals. What
    happens inside a token's bytes depends on nothing outside until a merge crosses their border, so a token is
    always made of the same two parts: those that are left when its bytes stand alone.
    """
    tokens = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    if native.module and len(ranks) <= native.MOST_TOKENS:
        merges, unreachable = _recover_natively(tokens)
        if all(len(_last_parts(token, ranks)) > 2 for token in unreachable):
            return merges, unreachable
        # Some token ranks before its parts, which the quick way does not foresee.
    found = [(token, _last_parts(token, ranks)) for token in tokens]
    return (
        tuple((parts[0], parts[1]) for _, parts in found if len(parts) == 2),
        [token for token, parts in found if len(parts) > 2],
    )


def _recover_natively(tokens: list[bytes]) -> tuple[tuple[tuple[bytes, bytes], ...], list[bytes]]:
    """The same for tokens in order of rank, each of which ranks after its parts."""
    everything = [*(bytes([byte]) for byte in range(256)), *tokens]
    offsets = np.cumsum([0, *map(len, everything)], dtype=np.uint64)
    pairs = np.empty((len(tokens), 2), np.uint32)
    module: Any = native.module
    module.recover_merges(b"".join(everything), offsets, pairs)
    reached = pairs[:, 0] < len(everything)
    merges = tuple((everything[left], everything[right]) for left, right in pairs[reached].tolist())
    return merges, [tokens[number] for number in np.flatnonzero(~reached)]


def _last_parts(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What merging leaves of a token before its own merge: two parts, or more if that never comes."""
    parts = [token[place : place + 1] for place in range(len(token))]
    pair_ranks = [ranks.get(left + right, _NEVER) for left, right in pairwise(parts)]
    while len(parts) > 2:
        lowest = min(pair_ranks)
        if lowest == _NEVER:
            break
        place = pair_ranks.index(lowest)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        del pair_ranks[place]
        for left in (place - 1, place):
            if 0 <= left < len(pair_ranks):
                pair_ranks[left] = ranks.get(parts[left] + parts[left + 1], _NEVER)
    return parts


def write_file(file: Path, definition: Definition) -> None:
    """Write the ranks, from which `tiktoken.Encoding` gives the same ids with the same pattern and special tokens.

    UserError if tiktoken has no way to give them: text is changed first or cut by several patterns, or ids do not
    follow the order of merges.
    """
    for means in ("compose", "add_prefix_space", "further_patterns"):
        if getattr(definition, means):
            raise UserError(f"a rank file cannot say {means}; save the tokenizer as tokenizer.json")
    ranks = definition.ids
    recovered, unreachable = recover_merges(ranks)
    needed = set(recovered)
    # Merges that are not needed meet no neighbours: Llama 3's files name every way to split a token.
    if tuple(merge for merge in definition.merges if merge in needed) != recovered:
        raise UserError("the ids do not follow the order of merges, as a rank file has it; save as tokenizer.json")
    if unreachable and not definition.whole_pieces:
        raise UserError(
            f"token {unreachable[0]!r} is made by no merges, but a rank file would use it; save as tokenizer.json"
        )
    lines = (b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda item: item[1]))
    write_atomically(file, b"".join(lines))
