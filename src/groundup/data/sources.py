"""Sources: from the words that a user gives (`books/`, `*.jsonl.xz`, `wiki-en`, `-`) to documents."""

import glob
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from groundup.data import hub
from groundup.data.corpora import CORPORA
from groundup.data.formats import NotTextError, read_file, read_standard_input
from groundup.data.text import Part, Split, check_split, without_empty
from groundup.errors import UserError, nearest
from groundup.files import fingerprint

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Item:
    """What one word of a user's sources stands for, or one of the files that it stands for.

    `path` is set for files. `named`: the user wrote this very file, so that it must be text; a file found in
    a folder or by a pattern may be something else and is skipped then.
    """

    source: str
    path: Path | None = None
    named: bool = True

    @property
    def attribution(self) -> str | None:
        """Licence and origin, where known: of embedded corpora."""
        return CORPORA[self.source].attribution if self._is_corpus else None

    @property
    def _is_corpus(self) -> bool:
        return self.path is None and self.source in CORPORA

    def parts(self, field: str, split: Split, shuffle: random.Random | None) -> Iterator[Part]:
        """Stream the documents; `shuffle` mixes those of an embedded corpus."""
        if self.path is not None:
            return read_file(self.path, field=field, split=split)
        if self._is_corpus:
            return (Part(document) for document in CORPORA[self.source].documents(shuffle))
        if self.source == STANDARD_INPUT:
            return read_standard_input(split)
        return hub.read_hub(self.source, field=field)

    def identity(self) -> Any:
        """Something that JSON can write and that changes when the documents may have changed, or None."""
        if self.path is not None:
            if not self.path.is_file():  # a pipe
                return None
            status = self.path.stat()
            return [str(self.path.absolute()), status.st_size, status.st_mtime_ns]
        return [self.source, CORPORA[self.source].version()] if self._is_corpus else None


class Reading:
    """The documents of several items; `skipped` fills with the files that are not text as they are met."""

    def __init__(self, items: Sequence[Item], field: str, split: Split, shuffle: random.Random | None) -> None:
        self.items = items
        self.skipped: list[str] = []
        self._field = field
        self._split = split
        self._shuffle = shuffle

    def __iter__(self) -> Iterator[Part]:
        """Stream the parts of all documents that are not empty; with `shuffle` the items come in mixed order."""
        items = list(self.items)
        if self._shuffle:
            self._shuffle.shuffle(items)
        for item in items:
            try:
                yield from without_empty(item.parts(self._field, self._split, self._shuffle))
            except NotTextError:
                if item.named:
                    raise
                self.skipped.append(str(item.path))


def read(
    sources: Sequence[str], *, field: str = "text", split: Split = "none", shuffle_seed: int | None = None
) -> Reading:
    """Stream the documents of `sources` once, in the given order or, with a seed, in a shuffled order of files.

    A source is a file, a folder (all of its files, sorted; hidden ones are left out), a pattern with `*`, `?`
    or `[`, `-` for standard input, the name of an embedded corpus (see `corpora.CORPORA`; to mean a file of
    the same name write `./wiki-en`), or `hf:NAME[:SPLIT]`. `formats.read_file` tells the kinds of files.

    Raises UserError for anything that is missing, holds no files, or cannot be read.
    """
    check_split(split)
    items = [item for source in sources for item in resolve(source)]
    return Reading(items, field, split, None if shuffle_seed is None else random.Random(shuffle_seed))


def fingerprint_sources(sources: Sequence[str], **options: Any) -> str | None:
    """A name for what `sources` hold now, for caching: changes with the path, size or time of any file.

    `options` (anything JSON can write: field, split, limit_bytes, ...) go into the name. None where the
    content cannot be known beforehand: standard input, pipes, the hub.
    """
    identities = [item.identity() for source in sources for item in resolve(source)]
    if None in identities:
        return None
    return fingerprint({"sources": identities, "options": options})


def resolve(source: str) -> list[Item]:
    """The items that a source stands for. Raises UserError if there are none."""
    if source == STANDARD_INPUT or source in CORPORA or source.startswith(hub.PREFIX):
        return [Item(source)]
    path = Path(source).expanduser()
    if source and path.is_dir():
        return _found(source, _files_below(path), "the folder holds no files (hidden ones do not count)")
    if source and path.exists():
        return [Item(source, path)]
    if glob.has_magic(source):
        matches = (Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes hidden files)
        return _found(source, filter(Path.is_file, matches), "no file matches this pattern")
    raise UserError(_missing(source, path))


def _found(source: str, paths: Iterator[Path], otherwise: str) -> list[Item]:
    items = [Item(source, path, named=False) for path in sorted(paths, key=lambda path: path.parts)]
    if not items:
        raise UserError(f"{source}: {otherwise}; give text files, .jsonl or .parquet")
    return items


def _files_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _missing(source: str, path: Path) -> str:
    """The message for a source that is nothing, with the nearest thing that there is."""
    neighbours = [str(Path(source).with_name(entry.name)) for entry in path.parent.glob("*")] if path.name else []
    close = get_close_matches(source, [*neighbours, *CORPORA], n=1, cutoff=0.5)
    hint = nearest(source, close or CORPORA)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not path.parent.exists():
        hint += f"; for a data set of the Hugging Face hub write hf:{source}"
    return f"{source!r}: no such file, folder or corpus{hint}"
