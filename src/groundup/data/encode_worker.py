"""The process that turns pieces of a store into token shards: `python -m groundup.data.encode_worker`.

Arguments: the store's folder, the tokenizer's folder, the dtype of ids. A line of JSON on standard input is a
job: {"rows": a .npy file, "shard": the file to write}; rows are (n, 3) int64: start and end of the bytes in
the store's text, and 1 where the piece ends there. On standard output {"bytes": n} tells of n more bytes done,
and {"tokens", "bytes", "file_bytes", "sha256"} of a finished shard. The process ends with its standard input.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from groundup.data.arrays import ArrayWriter
from groundup.data.store import DocumentStore
from groundup.files import sha256
from groundup.tokenizer import Tokenizer

SEGMENT_BYTES = 1 << 20


def encode_rows(
    store: DocumentStore,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    tokenizer: Tokenizer,
    shard: Path,
    dtype: str,
    tell: Callable[[int], None],
) -> dict[str, Any]:
    """Write one shard and describe it; `tell` is called with each further number of bytes done.

    Each piece is followed by end_of_text. A piece longer than 1 MiB is encoded in segments of about that
    size, cut at line breaks, so that memory stays constant; the ids beside such a cut may differ from those
    of encoding the piece at once (they still decode to the same bytes).
    """
    end_of_text = [tokenizer.end_of_text]
    untold = 0
    with ArrayWriter(shard, dtype) as tokens:
        for start, end, ends_piece in rows.tolist():
            for first, last in store.segments(start, end, SEGMENT_BYTES):
                tokens.append(tokenizer.encode_array(store.read(first, last)))
                untold += last - first
                if untold >= SEGMENT_BYTES // 4:
                    tell(untold)
                    untold = 0
            if ends_piece:
                tokens.append(end_of_text)
    tell(untold)
    return {
        "tokens": tokens.length,
        "bytes": int((rows[:, 1] - rows[:, 0]).sum()),
        "file_bytes": shard.stat().st_size,
        "sha256": sha256(shard),
    }


def main() -> None:
    """Do the jobs on standard input, one after the other."""
    store_folder, tokenizer_folder, dtype = sys.argv[1:]
    store, tokenizer = DocumentStore.open(Path(store_folder)), Tokenizer.load(Path(tokenizer_folder))

    def send(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        job = json.loads(line)
        rows = np.load(job["rows"])
        send(encode_rows(store, rows, tokenizer, Path(job["shard"]), dtype, lambda done: send({"bytes": done})))


if __name__ == "__main__":
    main()
