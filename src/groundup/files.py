"""Writing files so that a crash leaves either the old content or the new, and proving what was read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundup.errors import UserError


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `path` as `file_atomically` does."""
    with file_atomically(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def file_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary neighbour to write; then fsync it, rename it over `path` and fsync the folder.

    UserError where `path` is there and no ordinary file: renamed over, a device such as /dev/null would be gone.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not an ordinary file; name one that is, or one that is not there yet")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; file names that are not UTF-8 are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def folder_atomically(folder: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; rename it to `folder` when the block ends without an error.

    An existing `folder` is replaced; after an error the temporary folder is removed and `folder` is as before.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    discarded = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    # In containers process ids repeat: a killed process may have left these.
    for left in (temporary, discarded):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _sync(path)
        _sync(temporary)
        if folder.exists():
            folder.replace(discarded)
        temporary.replace(folder)
        _sync(folder.parent)
    finally:
        if discarded.exists() and not folder.exists():
            discarded.rename(folder)
        for left in (temporary, discarded):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def tensors_to(path: Path) -> Iterator[None]:
    """Around a writer of safetensors, whose errors are its own: UserError where the disk is full, or the like."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"could not write {path}: {reason}; make room, then do the same again") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; reads it in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """A short, stable name (16 hexadecimal digits) for anything that JSON can write."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where corpora, tokenizers and shards are kept: `$GROUNDUP_CACHE`, else the user's cache folder."""
    if configured := os.environ.get("GROUNDUP_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "groundup"
