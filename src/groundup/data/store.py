"""The staged store: the documents of all sources, read once and laid end to end, for random access."""

import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.data.arrays import ArrayWriter
from groundup.data.sources import read
from groundup.data.text import Part, Split, cut_before
from groundup.errors import UserError
from groundup.files import folder_atomically, sha256, write_json

TEXT, OFFSETS, MANIFEST = "text.bin", "offsets.npy", "manifest.json"

_FLUSHED_OFFSETS = 1 << 16
_PROGRESS_BYTES = 1 << 20

Warn = Callable[[str], None]
Progress = Callable[[int], None]
"""Called now and then with the number of bytes of text done so far."""


def silent(_: object) -> None:
    """A `progress` or `warn` that says nothing."""


class DocumentStore:
    """A folder with `text.bin` (the documents end to end), `offsets.npy` and `manifest.json`, opened to read.

    Document i is the bytes `offsets[i]` to `offsets[i + 1]` (int64) of the text. The offsets are mapped; the
    text is read at positions rather than mapped, because the pages of a map that have been touched count as
    memory of the process, and that would grow with the corpus.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.total_bytes: int = manifest["bytes"]
        self.sha256: str = manifest["sha256"]
        self.offsets = np.load(folder / OFFSETS, mmap_mode="r")
        self._descriptor = os.open(folder / TEXT, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    @classmethod
    def open(cls, folder: Path) -> "DocumentStore":
        """Open what `stage` wrote; raises UserError if it is missing or its sizes are not those it was given."""
        try:
            store = cls(folder, json.loads((folder / MANIFEST).read_bytes()))
            sizes = (len(store.offsets) - 1, (folder / TEXT).stat().st_size)
            intact = sizes == (store.manifest["documents"], store.total_bytes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: not a staged corpus ({error}); delete it and stage again") from error
        if not intact:
            raise UserError(f"{folder}: {TEXT} or {OFFSETS} is damaged; delete the folder and stage again")
        return store

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        return self.read(int(self.offsets[index]), int(self.offsets[index + 1]))

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end) of the text."""
        return os.pread(self._descriptor, end - start, start)

    def cut(self, position: int, reach: int, lowest: int = 0) -> int:
        """Where to cut near `position`: after the last line break among the `reach` bytes before it.

        Without one, before the character that stands there. Never before `lowest`.
        """
        start = max(position - max(reach, 3), lowest)  # a character may begin three bytes before
        return start + cut_before(self.read(start, position + 1), position - start, reach)

    def segments(self, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
        """The bytes [start, end) of one document as ranges of at most `size`, cut as `cut` says."""
        while end - start > size:
            cut = self.cut(start + size, size // 2, start)
            yield start, cut
            start = cut
        yield start, end


def stage(
    sources: Sequence[str],
    folder: Path,
    *,
    field: str = "text",
    split: Split = "none",
    limit_bytes: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> DocumentStore:
    """Stream the documents of `sources` once into `folder`, in memory that does not grow with them.

    With `limit_bytes` the store ends there (the last document is cut) and the files come in an order shuffled
    by `seed`, so that what is kept is a fair sample; without it they come in the given order. The manifest
    says: bytes, documents, sha256 (of text.bin), sources, skipped_files (paths in folders that are not text;
    `warn` is told), truncated (whether the limit left something out) and attribution (list of lines).

    Raises UserError for sources that cannot be read (see `sources.read`) or that hold no text at all.
    """
    if limit_bytes is not None and limit_bytes < 1:
        raise UserError(f"limit_bytes = {limit_bytes} leaves no text; give at least 1, or no limit")
    reading = read(sources, field=field, split=split, shuffle_seed=None if limit_bytes is None else seed)
    with folder_atomically(folder) as temporary:
        parts = _Limited(reading, sys.maxsize if limit_bytes is None else limit_bytes)
        documents, num_bytes = _write(parts, temporary, progress or silent)
        if reading.skipped and warn:
            some = ", ".join(reading.skipped[:3])
            warn(f"skipped {len(reading.skipped)} file(s) that are not UTF-8 text: {some}")
        if not documents:
            raise UserError(f"{', '.join(sources) or 'no sources'}: there is no text in it; name other sources")
        manifest = {
            "bytes": num_bytes,
            "documents": documents,
            "sha256": sha256(temporary / TEXT),
            "sources": list(sources),
            "skipped_files": reading.skipped,
            "truncated": parts.truncated,
            "attribution": sorted({item.attribution for item in reading.items if item.attribution}),
        }
        write_json(temporary / MANIFEST, manifest)
    return DocumentStore.open(folder)


class _Limited:
    """`parts` up to `limit_bytes` in all; `truncated` says afterwards whether that left something out."""

    def __init__(self, parts: Iterable[Part], limit_bytes: int) -> None:
        self.truncated = False
        self._parts = parts
        self._limit_bytes = limit_bytes

    def __iter__(self) -> Iterator[Part]:
        left = self._limit_bytes
        for part in self._parts:
            if len(part.data) > left:
                self.truncated = True
                yield Part(part.data[: cut_before(part.data, left)])
                return
            left -= len(part.data)
            yield part


def _write(parts: Iterable[Part], folder: Path, progress: Progress) -> tuple[int, int]:
    """Write text and offsets; gives the number of documents and of bytes."""
    documents = num_bytes = told = 0
    pending = [0]  # offsets not yet written
    inside = False  # a document of which something has been written and whose end is still to come
    with (folder / TEXT).open("wb") as text, ArrayWriter(folder / OFFSETS, np.int64) as offsets:
        for part in parts:
            text.write(part.data)
            num_bytes += len(part.data)
            inside = inside or bool(part.data)
            if inside and part.ends_document:
                documents += 1
                pending.append(num_bytes)
                inside = False
            if len(pending) >= _FLUSHED_OFFSETS:
                offsets.append(pending)
                pending.clear()
            if num_bytes - told >= _PROGRESS_BYTES:
                told = num_bytes
                progress(num_bytes)
        offsets.append(pending)
    progress(num_bytes)
    return documents, num_bytes
