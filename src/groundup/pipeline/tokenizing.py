"""The work of `groundup tokenizer`: which tokenizer is meant, training, encoding, comparing, tracing."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from groundup.data.sources import read
from groundup.data.text import Split, cut_before
from groundup.errors import UserError
from groundup.files import write_atomically
from groundup.pipeline.token_streams import OnBytes
from groundup.pipeline.training_text import TrainingText, total_bytes
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.files import find_file, read_definition
from groundup.tokenizer.library import LibraryTokenizer
from groundup.tokenizer.load import load_tokenizer
from groundup.tokenizer.rank_file import write_file
from groundup.tokenizer.statistics import AnyTokenizer, Tally, figures
from groundup.tokenizer.trace import Piece, trace

_DEFAULT_OUT = Path("tokenizer")
_DEFAULT_PATTERN = "cl100k"
_FILES = (".json", ".tiktoken")
_BATCH_BYTES = 1 << 20
_LONGEST_TRACE = 10_000


def find(path: Path) -> Path | None:
    """The file of the tokenizer that `path` names: itself, or of that folder or run; None if none."""
    if path.is_file():
        return path if path.suffix in _FILES or path.name == "merges.txt" else None
    files = (find_file(folder) for folder in (path, path / "tokenizer", path / "model") if folder.is_dir())
    return next(filter(Path.is_file, files), None)


def load(path: Path, pattern: str | None = None) -> AnyTokenizer:
    """The tokenizer that `path` names; `pattern`: how text is cut, for files that do not say it.

    UserError if there is none or it cannot be read.
    """
    file = _named(path)
    return load_tokenizer(file) if pattern is None else Tokenizer.load(file, pattern)


def _named(path: Path) -> Path:
    file = find(path) or (path if path.is_file() and path.suffix != ".txt" else None)
    if file is None:
        raise UserError(
            f"{path} is no tokenizer; name a folder that holds a tokenizer.json, that file, a .tiktoken file, "
            "or a run's folder"
        )
    return file


class TrainingProgress(Protocol):
    """Is told how training comes on."""

    def shown(self, total_bytes: int | None, vocabulary_size: int) -> AbstractContextManager[None]:
        """Show the progress while the block runs."""

    def read(self, num_bytes: int) -> None:
        """So many bytes more have been read."""

    def merge(self, fraction: float) -> None:
        """The trainer has come so far, 0..1."""


def train(
    sources: Sequence[str],
    out: Path,
    bars: TrainingProgress,
    *,
    vocabulary_size: int,
    pattern: str,
    special_tokens: Sequence[str] | None,
    min_frequency: int,
    ties: Literal["hf", "raw", "cs336"],
    model: Literal["bpe", "wordpiece", "unigram"],
    threads: int | None,
    field: str,
    split: Split,
) -> dict[str, Any]:
    """Train on `sources` and write the tokenizer to `out`; what there is to tell of it, as JSON can write it."""
    if model != "bpe" and (pattern, ties) != (_DEFAULT_PATTERN, "hf"):
        raise UserError(f"--pattern and --ties are for --model bpe; leave them out with --model {model}")
    text = TrainingText(sources, field, split, pattern, bars.read)
    before = time.monotonic()
    with bars.shown(text.total_bytes, vocabulary_size):
        tokenizer: AnyTokenizer
        if model == "bpe":
            tokenizer = Tokenizer.train(
                text,
                vocabulary_size,
                pattern,
                ("<|endoftext|>",) if special_tokens is None else special_tokens,
                min_frequency=min_frequency,
                ties=ties,
                threads=threads,
                progress=bars.merge,
            )
        else:
            tokenizer = LibraryTokenizer.train(
                text, vocabulary_size, model, special_tokens, min_frequency=min_frequency, progress=bars.merge
            )
    seconds = time.monotonic() - before
    if not text.num_bytes:
        raise UserError(f"{', '.join(sources)}: there is no text in it; name other sources")
    save(tokenizer, out)
    return {
        "out": str(out),
        "vocabulary_size": tokenizer.vocabulary_size,
        "asked_vocabulary_size": vocabulary_size,
        "merges": len(tokenizer.merges) if isinstance(tokenizer, Tokenizer) else None,
        "special_tokens": tokenizer.special_tokens,
        "bytes_per_token": _bytes_per_token(tokenizer, text.sample),
        "documents": text.num_documents,
        "bytes": text.num_bytes,
        "seconds": seconds,
        "bytes_per_second": text.num_bytes / seconds,
        "skipped_files": text.skipped,
        "fingerprint": tokenizer.fingerprint,
    }


def check_out(out: Path | None) -> Path:
    """Where to write a tokenizer; UserError, before anything is spent, if that cannot be."""
    if out is None:
        if _DEFAULT_OUT.exists():
            raise UserError(f"{_DEFAULT_OUT} exists already; say with --out where to write")
        return _DEFAULT_OUT
    if out.suffix in _FILES:
        if out.is_dir() or not out.parent.is_dir():
            raise UserError(f"--out {out} cannot be written as a file; name one in a folder that exists")
    elif out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder, or a file that ends with .json or .tiktoken")
    return out


def save(tokenizer: AnyTokenizer, out: Path) -> None:
    """Write a folder, or one file: a tokenizer.json, or a .tiktoken rank file, which has no special tokens."""
    if out.suffix not in _FILES:
        tokenizer.save(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        if out.suffix == ".tiktoken":
            write_file(out, read_definition(Path(folder)))
        else:
            write_atomically(out, (Path(folder) / "tokenizer.json").read_bytes())


def _bytes_per_token(tokenizer: AnyTokenizer, documents: Sequence[bytes]) -> float:
    num_tokens = sum(len(tokenizer.encode_ordinary(document)) for document in documents)
    return sum(map(len, documents)) / num_tokens


def tokenizers_and_sources(
    arguments: Sequence[str], pattern: str | None
) -> tuple[dict[str, AnyTokenizer], list[str]]:
    """Tell apart what of `arguments` is a tokenizer and what is text; UserError if either is missing."""
    named = [argument for argument in arguments if find(Path(argument)) is not None]
    sources = [argument for argument in arguments if argument not in named]
    if not named:
        raise UserError(f"none of {', '.join(arguments)} is a tokenizer; name its folder, or a .tiktoken file")
    if not sources:
        raise UserError("there is no text to measure on; name files, folders or corpora after the tokenizers")
    return {name: load(Path(name), pattern) for name in named}, sources


def compare(
    tokenizers: dict[str, AnyTokenizer], sources: Sequence[str], sample_bytes: int, on_bytes: OnBytes
) -> list[dict[str, Any]]:
    """The figures of each tokenizer (see `statistics.figures`), with its `name` and a row `by_source`.

    Of each source its share of `sample_bytes` is read at most, from its beginning on; the files of a folder come
    in mixed order. Memory does not grow with that.
    """
    tallies = {name: Tally(tokenizer) for name, tokenizer in tokenizers.items()}
    by_source: dict[str, list[dict[str, Any]]] = {name: [] for name in tokenizers}
    for source in sources:
        own = {name: Tally(tokenizer) for name, tokenizer in tokenizers.items()}
        for documents in _batches(_sample(source, max(sample_bytes // len(sources), 1))):
            for tally in own.values():
                tally.add(documents)
            on_bytes(sum(map(len, documents)))
        for name, tally in own.items():
            tallies[name] += tally
            by_source[name].append({"source": source} | _in_short(figures(tally)))
    if not next(iter(tallies.values())).num_bytes:
        raise UserError(f"{', '.join(sources)}: there is no text in it; name other sources")
    return [{"name": name} | figures(tally) | {"by_source": by_source[name]} for name, tally in tallies.items()]


def sample_size(sources: Sequence[str], sample_bytes: int) -> int:
    """The bytes that `compare` will read, at most."""
    total = total_bytes(sources)
    return sample_bytes if total is None else min(total, sample_bytes)


def _in_short(all_figures: dict[str, Any]) -> dict[str, Any]:
    names = ("documents", "bytes", "characters", "tokens", "bytes_per_token", "characters_per_token")
    return {name: all_figures[name] for name in (*names, "tokens_per_word")}


def _sample(source: str, limit: int) -> Iterator[bytes]:
    left = limit
    for part in read([source], shuffle_seed=0):
        data = part.data[: cut_before(part.data, left)]
        yield data
        left -= len(data)
        if left <= 0 or len(data) < len(part.data):
            return


def _batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Documents together until they are worth a call of numpy; long ones in slices."""
    batch: list[bytes] = []
    num_bytes = 0
    for document in documents:
        rest = document
        while rest:
            end = cut_before(rest, _BATCH_BYTES)
            batch.append(rest[:end])
            num_bytes += end
            rest = rest[end:]
            if num_bytes >= _BATCH_BYTES:
                yield batch
                batch, num_bytes = [], 0
    if batch:
        yield batch


def trace_text(path: Path, pattern: str | None, text: bytes) -> tuple[list[Piece], Definition]:
    """The merges of a short text, and the tokenizer that `path` names; UserError if that is no byte-level BPE."""
    definition = read_definition(_named(path), pattern)
    if len(text) > _LONGEST_TRACE:
        raise UserError(
            f"the text has {len(text):,} bytes, and merges are shown for at most {_LONGEST_TRACE:,}; give less, "
            "or measure it with `groundup tokenizer stats`"
        )
    return trace(definition, text), definition
