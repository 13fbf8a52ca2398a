"""From documents to merges: count the pieces on several threads, then merge."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from operator import length_hint
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from groundup.errors import UserError
from groundup.tokenizer import native
from groundup.tokenizer.encode import native_pattern, piece_ends
from groundup.tokenizer.pretokenize import as_bytes, as_text, as_utf8, splitter, sure_cut
from groundup.tokenizer.train import byte_order, train_merges

Document = str | bytes | Path
Progress = Callable[[float], None]
Merges = list[tuple[bytes, bytes]]
_BLOCK_BYTES = 1 << 22
_COUNTING = 0.5  # the share of the progress that counting takes


@dataclass(frozen=True, kw_only=True)
class Options:
    """How merges are learned."""

    pattern: str
    num_merges: int
    min_frequency: int = 0
    ties: str = "hf"
    threads: int = 1


def learn_merges(documents: Iterable[Document], options: Options, progress: Progress | None = None) -> Merges:
    """Count the pieces of all documents and train merges on them (see `train_merges`).

    Documents are read once, a file block by block; held in memory are the distinct pieces. The merges do not
    depend on the number of threads. `progress` is called with the fraction done, 0..1.
    """
    report = progress or (lambda _: None)
    pieces = _NativePieces(options) if native.module else _PlainPieces(options)
    _count(pieces, documents, options.threads, lambda done: report(done * _COUNTING))
    merges = pieces.train(lambda done: report(_COUNTING + done * (1 - _COUNTING)))
    report(1.0)  # also if the pieces offer fewer merges than wanted
    return merges


class _Pieces(Protocol):
    cuts: bool
    """Whether a document may be cut at `sure_cut`."""

    def count(self, documents: list[bytes]) -> None:
        """Add the pieces of some documents; called from several threads at once."""

    def train(self, progress: Progress) -> Merges:
        """The merges of all that was counted."""


class _NativePieces:
    def __init__(self, options: Options) -> None:
        self._native: Any = native.module
        self._options = options
        self._pattern = native_pattern((options.pattern,))
        self._split = splitter(options.pattern)
        self.cuts = self._pattern is not None
        self._idle: SimpleQueue[Any] = SimpleQueue()  # a set of counts for each thread
        for _ in range(options.threads):
            self._idle.put(self._native.new_counts())

    def count(self, documents: list[bytes]) -> None:
        counts = self._idle.get()
        try:
            for document in documents:
                native.check_size(document)
                if self._pattern is not None:
                    self._native.count(counts, self._pattern, document)
                else:
                    self._native.count_given(counts, document, piece_ends(self._split(as_text(document))))
        finally:
            self._idle.put(counts)

    def train(self, progress: Progress) -> Merges:
        counts = self._idle.get()
        while not self._idle.empty():
            self._native.merge_counts(counts, self._idle.get())
        options, order = self._options, byte_order(self._options.ties)
        pairs = array("I")
        id_of_byte = bytes(map(order.index, range(256)))
        rule = native.TIES.index(options.ties)
        try:
            pairs.frombytes(
                self._native.train(
                    *self._native.take_pieces(counts),
                    id_of_byte,
                    options.num_merges,
                    options.min_frequency,
                    rule,
                    progress,
                )
            )
        except OverflowError as error:
            raise UserError(f"cannot train a tokenizer on so much: {error}; give fewer documents") from None
        tokens = [bytes([byte]) for byte in order]
        merges: Merges = []
        for left, right in zip(pairs[::2], pairs[1::2], strict=True):
            merges.append((tokens[left], tokens[right]))
            tokens.append(tokens[left] + tokens[right])
        return merges


class _PlainPieces:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._split = splitter(options.pattern)
        self.cuts = native_pattern((options.pattern,)) is not None
        self._counts: Counter[str] = Counter()

    def count(self, documents: list[bytes]) -> None:
        for document in documents:
            self._counts.update(self._split(as_text(document)))

    def train(self, progress: Progress) -> Merges:
        # Distinct texts can be the same bytes: "é", and its two bytes as lone surrogates.
        merged: Counter[bytes] = Counter()
        for piece, count in self._counts.items():
            merged[as_bytes(piece)] += count
        options = self._options
        return train_merges(
            merged, options.num_merges, progress, min_frequency=options.min_frequency, ties=options.ties
        )


def _count(pieces: _Pieces, documents: Iterable[Document], threads: int, progress: Progress) -> None:
    """Count all documents; no more than two batches a thread are in memory."""
    threads = threads if native.module else 1
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[None]] = set()
        try:
            for batch, done in _batches(documents, pieces.cuts):
                running.add(pool.submit(pieces.count, batch))
                if len(running) >= 2 * threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                if done is not None:
                    progress(done)
            for future in running:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _batches(documents: Iterable[Document], cut: bool) -> Iterator[tuple[list[bytes], float | None]]:
    """Documents in batches of a few megabytes, and the fraction that is read, if `documents` has a length."""
    total = length_hint(documents)
    batch: list[bytes] = []
    size = 0
    for number, document in enumerate(documents):
        for part, share in _parts(document, cut):
            batch.append(part)
            size += len(part)
            if size >= _BLOCK_BYTES:
                yield batch, min((number + share) / total, 1.0) if total else None
                batch, size = [], 0
    yield batch, 1.0 if total else None


def _parts(document: Document, cut: bool) -> Iterator[tuple[bytes, float]]:
    """The document's bytes, a file's in parts between which no piece is cut; and the share that is read."""
    if not isinstance(document, Path):
        yield as_utf8(document), 1.0
        return
    total, read = max(document.stat().st_size, 1), 0
    held: list[bytes] = []  # blocks that are not cut yet
    with document.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            read += len(block)
            if cut:
                # Where the blocks before had no place to cut, only their end may have one now.
                text, searched = b"".join([*held, block]), max(sum(map(len, held)) - 8, 0)
                place = sure_cut(text, searched, len(text))
                held = [text]
                if place > searched:
                    yield text[:place], min(read / total, 1.0)
                    held = [text[place:]]
            else:
                held.append(block)
    yield b"".join(held), 1.0
