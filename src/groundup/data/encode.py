"""Encoding: pieces of a store become token shards, in parallel processes."""

import json
import os
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import groundup
from groundup.data.holdout import Pieces
from groundup.data.shards import MANIFEST, Shards
from groundup.data.store import DocumentStore, Progress, silent
from groundup.errors import UserError
from groundup.files import folder_atomically, write_json
from groundup.tokenizer import Tokenizer

_SMALLEST_SHARD_BYTES, _LARGEST_SHARD_BYTES = 1 << 20, 256 << 20
_SHARDS = 64  # about as many, so that several workers end at nearly the same time

_Rows = NDArray[np.int64]  # (n, 3): start, end, whether the piece ends there


def encode(
    store: DocumentStore,
    pieces: Pieces,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    name: str,
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> Shards:
    """Encode `pieces` in order, each followed by end_of_text, into shards in `folder` (see `Shards`).

    Ids are uint16 where the vocabulary allows it, else uint32. The shards do not depend on `num_workers` (by
    default one a processor). Pieces longer than a shard or than 1 MiB are cut at line breaks and encoded part
    by part in constant memory, which may change the ids beside the cut but not what they decode to.

    Workers are started as `python -m groundup.data.encode_worker`, so that a caller's script needs no
    `__main__` guard. After an error or Ctrl-C they are ended and nothing is left behind. Raises UserError if
    one fails.
    """
    total = int((pieces[:, 1] - pieces[:, 0]).sum())
    if not total:
        raise UserError(f"{name}: there is no text to encode; add text")
    shard_bytes = min(max(total // _SHARDS, _SMALLEST_SHARD_BYTES), _LARGEST_SHARD_BYTES)
    num_workers = min(num_workers or os.cpu_count() or 1, -(-total // shard_bytes))
    dtype = "uint16" if tokenizer.vocabulary_size <= 1 << 16 else "uint32"
    with folder_atomically(folder) as temporary, ExitStack() as cleanup:
        scratch = temporary / "scratch"
        tokenizer.save(scratch / "tokenizer")
        arguments = [str(store.folder), str(scratch / "tokenizer"), dtype]
        workers = [
            cleanup.enter_context(_Worker(arguments, scratch / f"worker-{number}.log"))
            for number in range(num_workers)
        ]
        described = _distribute(_jobs(store, pieces, shard_bytes, temporary, scratch), workers, progress or silent)
        shutil.rmtree(scratch)
        manifest = {
            "name": name,
            "dtype": dtype,
            "tokens": sum(shard["tokens"] for shard in described),
            "bytes": total,
            "end_of_text": tokenizer.end_of_text,
            "tokenizer": tokenizer.fingerprint,
            "store": store.sha256,
            "shards": described,
        }
        write_json(temporary / MANIFEST, manifest)
    return Shards.open(folder)


def _jobs(
    store: DocumentStore, pieces: Pieces, shard_bytes: int, folder: Path, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Name each shard, write down which rows it is made of, and yield the job."""
    for number, rows in enumerate(_rows_of_shards(store, pieces, shard_bytes)):
        path = scratch / f"rows-{number}.npy"
        np.save(path, rows)
        yield {"number": number, "rows": str(path), "shard": str(folder / f"shard-{number:05d}.npy")}


def _rows_of_shards(store: DocumentStore, pieces: Pieces, shard_bytes: int) -> Iterator[_Rows]:
    """Group the pieces into shards of at most `shard_bytes` of text, cutting the pieces that are longer."""
    rows: list[tuple[int, int, int]] = []
    num_bytes = 0
    for start, end in pieces:
        for first, last in store.segments(int(start), int(end), shard_bytes):
            if num_bytes + last - first > shard_bytes and rows:
                yield np.array(rows, np.int64)
                rows, num_bytes = [], 0
            rows.append((first, last, int(last == end)))
            num_bytes += last - first
    yield np.array(rows, np.int64)


class _Worker:
    """One process of `encode_worker`; it is killed when its block is left."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.job: dict[str, Any] = {}
        self._log = log
        # The worker must find this very package, and nothing else in the caller's current folder (-P).
        paths = [str(Path(groundup.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "groundup.data.encode_worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,  # so that no message waits in a buffer where select does not see it
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the workers
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout

    def start(self, job: dict[str, Any]) -> None:
        """Send a job."""
        self.job = job
        try:
            self._stdin.write(json.dumps(job).encode() + b"\n")
        except BrokenPipeError:
            raise self._failure() from None

    def receive(self) -> dict[str, Any]:
        """The next message; UserError if the process has ended instead."""
        line = self.stdout.readline()
        if not line:
            raise self._failure()
        message: dict[str, Any] = json.loads(line)
        return message

    def _failure(self) -> UserError:
        status = self._process.wait()
        said = self._log.read_text(errors="replace").strip().splitlines()
        if said:
            return UserError(f"an encoding worker failed: {said[-1]}")
        if status < 0:
            return UserError(
                f"an encoding worker was ended by signal {-status}; is there memory for fewer workers?"
            )
        return UserError(f"an encoding worker ended with status {status} before its work was done; run it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self.stdout.close()


def _distribute(
    jobs: Iterator[dict[str, Any]], workers: list[_Worker], progress: Progress
) -> list[dict[str, Any]]:
    """Give every idle worker the next job until all are done; the descriptions of the shards in order."""
    described: dict[int, dict[str, Any]] = {}
    num_bytes = 0
    with selectors.DefaultSelector() as busy:
        for worker, job in zip(workers, jobs, strict=False):
            worker.start(job)
            busy.register(worker.stdout, selectors.EVENT_READ, worker)
        while busy.get_map():
            for key, _ in busy.select():
                worker = key.data
                message = worker.receive()
                if "sha256" not in message:
                    num_bytes += message["bytes"]
                    progress(num_bytes)
                    continue
                Path(worker.job["rows"]).unlink()
                described[worker.job["number"]] = {"file": Path(worker.job["shard"]).name, **message}
                try:
                    worker.start(next(jobs))
                except StopIteration:
                    busy.unregister(worker.stdout)
    return [described[number] for number in sorted(described)]
