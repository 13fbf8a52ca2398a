"""Token shards: the ids of a split, in files of one folder, read as one long stream."""

import json
import os
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.files import sha256

MANIFEST = "manifest.json"


class Shards:
    """The folder that `encode.encode` writes, opened to read.

    `manifest.json` holds name, dtype, tokens, bytes, end_of_text, tokenizer (its fingerprint), store (the
    sha256 of its text) and shards: a list of file, tokens, bytes (of text), file_bytes and sha256. Each shard
    is a one-dimensional .npy file that numpy can map. Reading is by position, so that the memory of a process
    stays the same however many tokens it has visited, and no file stays open.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.num_tokens: int = manifest["tokens"]
        self.num_bytes: int = manifest["bytes"]
        self.dtype = np.dtype(manifest["dtype"])
        self._files = [folder / shard["file"] for shard in manifest["shards"]]
        self._file_bytes = [int(shard["file_bytes"]) for shard in manifest["shards"]]
        lengths = [int(shard["tokens"]) for shard in manifest["shards"]]
        self._starts: list[int] = np.cumsum([0, *lengths], dtype=np.int64).tolist()

    @classmethod
    def open(cls, folder: Path, verify: bool = False) -> "Shards":
        """Open and check that each file has the size it was given; with `verify` the hashes as well.

        Raises UserError that names the damaged or missing file.
        """
        try:
            shards = cls(folder, json.loads((folder / MANIFEST).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}: not a folder of token shards ({error}); delete it and encode again"
            ) from error
        for path, shard in zip(shards._files, shards.manifest["shards"], strict=True):
            size = path.stat().st_size if path.is_file() else None
            if size != shard["file_bytes"]:
                has = "is missing" if size is None else f"has {size} bytes instead of {shard['file_bytes']}"
                raise UserError(f"{path}: {has}; delete {folder} and encode again")
            if verify and sha256(path) != shard["sha256"]:
                raise UserError(f"{path}: its content is not what was written; delete {folder} and encode again")
        return shards

    def read(self, start: int, length: int) -> NDArray[Any]:
        """Tokens [start, start + length) as an array (length,) of `dtype`, across shards where need be."""
        if start < 0 or length < 0 or start + length > self.num_tokens:
            raise IndexError(f"tokens [{start}, {start + length}) of {self.num_tokens}")
        tokens = np.empty(length, self.dtype)
        filled = 0
        shard = bisect_right(self._starts, start) - 1
        while filled < length:
            first = start + filled - self._starts[shard]
            count = min(length - filled, self._starts[shard + 1] - self._starts[shard] - first)
            self._read_shard(shard, first, tokens[filled : filled + count])
            filled += count
            shard += 1
        return tokens

    def _read_shard(self, shard: int, first: int, into: NDArray[Any]) -> None:
        """Fill `into` with the tokens of a shard from `first` on, in a third of `np.fromfile`'s time."""
        num_tokens = self._starts[shard + 1] - self._starts[shard]
        header_bytes = self._file_bytes[shard] - num_tokens * self.dtype.itemsize
        offset = header_bytes + first * self.dtype.itemsize
        left = into.data.cast("B")
        descriptor = os.open(self._files[shard], os.O_RDONLY)
        try:
            while left:
                count = os.preadv(descriptor, [left], offset)
                if not count:
                    raise OSError(f"{self._files[shard]} has become shorter while it was read")
                left, offset = left[count:], offset + count
        finally:
            os.close(descriptor)
