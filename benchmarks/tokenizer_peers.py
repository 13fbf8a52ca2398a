"""The contenders of `tokenizer.py`, each through the fastest interface that its own documentation offers.

Packages, groundup too, are imported where they are measured: a process has the memory of one contender.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokenizer_corpus import Text

Merges = list[list[str]]
"""In order of rank, in hexadecimal: [left, right], or only [both] where the package does not tell the parts."""


class Task(NamedTuple):
    """What is to be trained."""

    size: int
    """Bytes and merges; no special tokens."""
    pattern: str
    """Its name in groundup."""
    expression: str
    threads: int
    """For packages without such an argument RAYON_NUM_THREADS and the processors of the process are set to it."""


@dataclass(frozen=True)
class Trainer:
    package: str
    feed: str
    """What it is given: a key of `FEEDS`."""
    same: str
    """Trainers with the same words here must give the same merges: the tie rule; whether lines are cut apart."""
    train: Callable[[Any, Task], Any]
    """(feed, task) -> what `merges` reads; the only part that is timed."""
    merges: Callable[[Any], Merges]
    patterns: tuple[str, ...] = ("cl100k", "gpt2")


FEEDS: dict[str, Callable[[Text], Any]] = {
    "list of str": lambda text: text.documents,
    "list of bytes": lambda text: [document.encode() for document in text.documents],
    "file": lambda text: text.path,
    "list of lines": lambda text: text.path.open("rb").readlines(),
}


def _train_groundup(ties: str) -> Callable[[Any, Task], Any]:
    def train(feed: Any, task: Task) -> Any:
        from groundup.tokenizer import Tokenizer

        documents = [feed] if isinstance(feed, Path) else feed
        return Tokenizer.train(documents, task.size, task.pattern, (), ties=ties, threads=task.threads)

    return train


def _pairs(merges: list[tuple[bytes, bytes]]) -> Merges:
    return [[left.hex(), right.hex()] for left, right in merges]


def _written_pairs(merges: list[tuple[str, str]]) -> Merges:
    """Merges that are written in GPT-2's alphabet."""
    from groundup.tokenizer.alphabet import from_characters

    return _pairs([(from_characters(left), from_characters(right)) for left, right in merges])


def _train_tokenizers(documents: list[str], task: Task) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=task.pattern == "gpt2")
    split = pre_tokenizers.Split(Regex(task.expression), "isolated")
    tokenizer.pre_tokenizer = (
        byte_level if task.pattern == "gpt2" else pre_tokenizers.Sequence([split, byte_level])
    )
    trainer = trainers.BpeTrainer(
        vocab_size=task.size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def _merges_tokenizers(tokenizer: Any) -> Merges:
    return _written_pairs(json.loads(tokenizer.to_str())["model"]["merges"])


def _train_gigatoken(path: Path, task: Task) -> Any:
    import gigatoken

    return gigatoken.train_bpe(path, task.size, [])[1]


def _train_gigabpe(path: Path, task: Task) -> Any:
    import gigabpe

    # Bytes that do not occur get no id, so it makes a few merges more than the others.
    options = {"special_tokens": [], "pretokenizer": "bytelevel", "threads": task.threads}
    return gigabpe.train_bpe([str(path)], task.size, **options)[1]


def _train_rustbpe(documents: list[str], task: Task) -> Any:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(documents, task.size, pattern=task.expression)
    return tokenizer


def _merges_rustbpe(tokenizer: Any) -> Merges:
    return _tokens({bytes(token): rank for token, rank in tokenizer.get_mergeable_ranks()})


def _train_bpeasy(documents: list[str], task: Task) -> Any:
    import bpeasy

    return bpeasy.train_bpe(iter(documents), task.expression, 1 << 20, task.size)


def _tokens(ranks: dict[bytes, int]) -> Merges:
    return [[token.hex()] for token in sorted(ranks, key=lambda token: ranks[token])[256:]]


def _of_ours(tokenizer: Any) -> Merges:
    return _pairs(tokenizer.merges)


_OURS = "groundup.tokenizer"
TRAINERS = {
    "groundup": Trainer(_OURS, "list of bytes", "hf", _train_groundup("hf"), _of_ours),
    "groundup, from the file": Trainer(_OURS, "file", "hf", _train_groundup("hf"), _of_ours),
    "groundup, by line": Trainer(_OURS, "list of lines", "hf by line", _train_groundup("hf"), _of_ours, ("gpt2",)),
    "groundup, raw ties": Trainer(_OURS, "list of bytes", "raw", _train_groundup("raw"), _of_ours),
    "tokenizers": Trainer("tokenizers", "list of str", "hf", _train_tokenizers, _merges_tokenizers),
    "rustbpe": Trainer("rustbpe", "list of str", "raw", _train_rustbpe, _merges_rustbpe),
    "bpeasy": Trainer("bpeasy", "list of str", "raw", _train_bpeasy, _tokens),
    "gigabpe": Trainer("gigabpe", "file", "hf by line", _train_gigabpe, _written_pairs, ("gpt2",)),
    "gigatoken": Trainer("gigatoken", "file", "hf", _train_gigatoken, _pairs, ("gpt2",)),
}


@dataclass(frozen=True)
class Setting:
    """What a loader may use: both files of cl100k, the size of the text in bytes, and the threads."""

    tiktoken_file: Path
    json_file: Path
    size: int
    threads: int


@dataclass(frozen=True)
class Coder:
    """One interface of one package, to encode or to decode."""

    package: str
    call: str
    """The call that is timed, for the table."""
    takes: str
    """For encoding: bytes, str, documents (list of str). For decoding: array (uint32), list."""
    load: Callable[[Setting], Callable[[Any], Any]]
    """Makes the function that is timed."""
    read: Callable[[Any], Any]
    """What the function returns, as a uint32 array (encoding) or bytes (decoding); not timed."""


def _groundup(setting: Setting) -> Any:
    from groundup.tokenizer import Tokenizer

    return Tokenizer.load(setting.tiktoken_file)


def _groundup_array(setting: Setting) -> Callable[[Any], Any]:
    tokenizer = _groundup(setting)
    out = np.ones(setting.size, dtype=np.uint32)  # written once, so that its pages are there
    return lambda text: tokenizer.encode_array(text, threads=setting.threads, out=out)


def _tiktoken(setting: Setting) -> Any:
    import tiktoken
    import tiktoken.load

    os.environ["TIKTOKEN_CACHE_DIR"] = str(setting.tiktoken_file.parent)
    return tiktoken.get_encoding("cl100k_base")


def _tiktoken_batch(setting: Setting) -> Callable[[Any], Any]:
    tokenizer = _tiktoken(setting)
    return lambda documents: tokenizer.encode_ordinary_batch(documents, num_threads=setting.threads)


def _gigatoken(setting: Setting) -> Any:
    import gigatoken

    return gigatoken.Tokenizer.from_tiktoken(setting.tiktoken_file)


def _gigatoken_source(setting: Setting) -> Callable[[Any], Any]:
    import awkward  # noqa: F401  # gigatoken would do so in the first pass
    import gigatoken

    tokenizer = _gigatoken(setting)
    return lambda text: tokenizer.encode_batch(gigatoken.BytesSource(text))


def _fastokens(setting: Setting) -> Any:
    import fastokens

    return fastokens.Tokenizer.from_tiktoken(str(setting.tiktoken_file), encoding="cl100k_base")


def _snaptokens(setting: Setting) -> Any:
    import snaptokens

    return snaptokens.Tokenizer.from_file(str(setting.json_file))


def _quicktok(setting: Setting) -> Any:
    del setting
    import quicktok

    return quicktok.get_encoding("cl100k_base")


def _quicktok_batch(setting: Setting) -> Callable[[Any], Any]:
    tokenizer = _quicktok(setting)
    return lambda documents: tokenizer.encode_batch(documents, threads=setting.threads)


def _tokenizers(setting: Setting) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(setting.json_file))


def _method(
    load: Callable[[Setting], Any], name: str, **options: Any
) -> Callable[[Setting], Callable[[Any], Any]]:
    def bound(setting: Setting) -> Callable[[Any], Any]:
        function = getattr(load(setting), name)
        return (lambda given: function(given, **options)) if options else function

    return bound


def _array(ids: Any) -> np.ndarray:
    return np.asarray(ids, dtype=np.uint32)


def _flat(result: tuple[bytes, bytes]) -> np.ndarray:
    return np.frombuffer(result[0], dtype=np.uint32)


def _of_encoding(result: Any) -> np.ndarray:
    return _array(result.ids)


def _joined(lists: list[list[int]]) -> np.ndarray:
    return np.concatenate([_array(ids) for ids in lists])


def _joined_encodings(results: list[Any]) -> np.ndarray:
    return _joined([result.ids for result in results])


def _awkward(result: Any) -> np.ndarray:
    import awkward

    return _array(awkward.flatten(result))


_FAST = _method(_fastokens, "encode_batch_flat", split_special_tokens=True)
_SNAP = _method(_snaptokens, "encode_batch_flat")

ENCODERS = [
    Coder(
        "tiktoken", "encode_to_numpy", "str", _method(_tiktoken, "encode_to_numpy", disallowed_special=()), _array
    ),
    Coder("tiktoken", "encode_ordinary", "str", _method(_tiktoken, "encode_ordinary"), _array),
    Coder("groundup", "encode_array, out reused", "bytes", _groundup_array, _array),
    Coder("groundup", "encode_array", "bytes", _method(_groundup, "encode_array"), _array),
    Coder("groundup", "encode_ordinary", "str", _method(_groundup, "encode_ordinary"), _array),
    Coder("gigatoken", "encode", "bytes", _method(_gigatoken, "encode"), _array),
    Coder("fastokens", "encode_batch_flat", "[str]", _FAST, _flat),
    Coder("fastokens", "encode_ordinary", "str", _method(_fastokens, "encode_ordinary"), _of_encoding),
    Coder("snaptokens", "encode_batch_flat", "[str]", _SNAP, _flat),
    Coder("snaptokens", "encode", "str", _method(_snaptokens, "encode"), _of_encoding),
    Coder("quicktok-v1", "encode_batch", "[str]", _quicktok_batch, lambda result: _array(result[0])),
    Coder("quicktok-v1", "encode_ordinary", "str", _method(_quicktok, "encode_ordinary"), _array),
    Coder("tokenizers", "encode", "str", _method(_tokenizers, "encode", add_special_tokens=False), _of_encoding),
]
"""Encoding on one thread: arrays where the package gives them, and what its users call, which gives lists."""

PARALLEL_ENCODERS = [
    Coder("tiktoken", "encode_ordinary_batch", "documents", _tiktoken_batch, _joined),
    Coder("groundup", "encode_array, out reused", "bytes", _groundup_array, _array),
    Coder("gigatoken", "encode_batch(BytesSource)", "bytes", _gigatoken_source, _awkward),
    Coder("fastokens", "encode_batch_flat", "documents", _FAST, _flat),
    Coder("snaptokens", "encode_batch_flat", "documents", _SNAP, _flat),
    Coder("quicktok-v1", "encode_batch", "documents", _quicktok_batch, lambda result: _array(result[0])),
]

DECODERS = [
    Coder("tiktoken", "decode_bytes", "list", _method(_tiktoken, "decode_bytes"), bytes),
    Coder("tiktoken", "decode", "list", _method(_tiktoken, "decode"), str.encode),
    Coder("groundup", "decode_bytes", "array", _method(_groundup, "decode_bytes"), bytes),
    Coder("groundup", "decode_bytes", "list", _method(_groundup, "decode_bytes"), bytes),
    Coder("groundup", "decode", "array", _method(_groundup, "decode"), str.encode),
    Coder("groundup", "decode", "list", _method(_groundup, "decode"), str.encode),
    Coder("gigatoken", "decode", "array", _method(_gigatoken, "decode"), bytes),
    Coder("gigatoken", "decode", "list", _method(_gigatoken, "decode"), bytes),
    Coder("fastokens", "decode", "list", _method(_fastokens, "decode"), str.encode),
    Coder("snaptokens", "decode", "list", _method(_snaptokens, "decode"), str.encode),
    Coder("quicktok-v1", "decode_bytes", "list", _method(_quicktok, "decode_bytes"), bytes),
    Coder("tokenizers", "decode", "list", _method(_tokenizers, "decode"), str.encode),
]

CODERS = {"encode": ENCODERS, "encode in parallel": PARALLEL_ENCODERS, "decode": DECODERS}
