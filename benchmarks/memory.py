"""Resident memory while a corpus is read, cut, encoded and batched: it must not grow with the corpus.

    python benchmarks/memory.py --sizes 100 1000

Writes generated text of so many MB, takes it through the data room in a process of its own, and prints the peak
resident memory of that process and of its largest encoding worker.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_WORDS = 20_000


def write_text(path: Path, megabytes: int) -> None:
    """Sentences of made-up words with Zipf frequencies, in paragraphs; one file in .jsonl of 4 kB documents."""
    generator = random.Random(megabytes)
    words = ["".join(generator.choices("etaoinshrdlucmfw", k=generator.randint(2, 9))) for _ in range(_WORDS)]
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    with path.open("w") as file:
        written = 0
        while written < megabytes * 1_000_000:
            # One drawing serves many documents: the text is what matters, not its entropy.
            drawn = " ".join(generator.choices(words, weights, k=40_000))
            for start in range(0, len(drawn), 4000):
                file.write(json.dumps({"text": drawn[start : start + 4000]}) + "\n")
                written += 4000


def measure(path: Path, folder: Path) -> dict[str, float]:
    """Everything from the file to batches, and the peak memory in bytes (Linux: ru_maxrss counts KiB)."""
    from groundup import data
    from groundup.data.holdout import split
    from groundup.tokenizer import Tokenizer

    began = time.time()
    store = data.stage([str(path)], folder / "store")
    train, held_out = split(store, seed=1)
    tokenizer = Tokenizer.train(data.sample(store, 4 << 20, 1, held_out), 4096)
    shards = data.encode(store, train, tokenizer, folder / "shards", name="train")
    batches = data.Batches(shards, 1, 256)
    for step in range(500):
        batches.windows(32 * step, 32)
    return {
        "megabytes": path.stat().st_size / 1e6,
        "tokens": shards.num_tokens,
        "seconds": time.time() - began,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "worker_peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="MB")
    parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    for megabytes in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.jsonl"
            write_text(path, megabytes)
            subprocess.run([sys.executable, __file__, "--measure", str(path), folder], check=True)


if __name__ == "__main__":
    main()
