"""Text made to be slow: 10 MB of one letter, of spaces, of one emoji, of base64, beside ordinary text.

    python benchmarks/tokenizer_worst.py --folder DIR      DIR as written by `tokenizer.py corpus`

Encoding with cl100k on one thread, the first pass of a new process each; the time a byte beside that of prose.
"""

import argparse
import base64
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import tokenizer_corpus as corpus
from tokenizer_rounds import load, print_machine, print_table

_BYTES = 10_000_000
_RANDOM = random.Random(0)
_TEXTS: dict[str, Callable[[], bytes]] = {
    "one letter": lambda: b"a" * _BYTES,
    "spaces": lambda: b" " * _BYTES,
    "line ends": lambda: b"\n" * _BYTES,
    "one emoji": lambda: "😀".encode() * (_BYTES // 4),
    "base64": lambda: base64.b64encode(_RANDOM.randbytes(_BYTES * 3 // 4)),
    "random letters": lambda: bytes(_RANDOM.choices(b"abcdefghijklmnopqrstuvwxyz", k=_BYTES)),
    "random Han characters": lambda: "".join(
        map(chr, _RANDOM.choices(range(0x4E00, 0x9FA5), k=_BYTES // 3))
    ).encode(),
}
_PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from groundup.tokenizer import Tokenizer
tokenizer = Tokenizer.load(Path(sys.argv[1]))
text = Path(sys.argv[2]).read_bytes()
out = np.ones(len(text), np.uint32)
began = time.perf_counter()
ids = tokenizer.encode_array(text, out=out)
print(time.perf_counter() - began, len(text), tokenizer.decode_bytes(ids) == text)
"""


def measure(ranks: Path, text: Path, repeats: int) -> float:
    """Seconds a byte, the median of new processes."""
    found = []
    for _ in range(repeats):
        command = [sys.executable, "-c", _PROGRAM, str(ranks), str(text)]
        seconds, size, same = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert same == "True"
        found.append(float(seconds) / int(size))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    corpus.write_cl100k(arguments.folder)
    ranks = arguments.folder / corpus.TIKTOKEN_FILE
    texts = {name: arguments.folder / f"{name}.txt" for name in ("prose", "code", "mix", "chinese")}
    for name, make in _TEXTS.items():
        texts[name] = arguments.folder / f"worst-{name.replace(' ', '-')}.txt"
        texts[name].write_bytes(make())
    print_machine(())
    found = {name: measure(ranks, path, arguments.repeats) for name, path in texts.items()}
    rows = [
        [name, f"{1e-6 / a_byte:.0f}", f"{a_byte / found['prose']:.2f}", f"{a_byte / found['mix']:.2f}"]
        for name, a_byte in found.items()
    ]
    print(f"10 MB, first pass of a new process, median of {arguments.repeats}\n")
    print_table(["text", "MB/s", "time a byte / prose's", "/ mix's"], rows)
    print(load())


if __name__ == "__main__":
    main()
