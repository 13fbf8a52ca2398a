"""The tokenizer beside its peers: training, encoding, decoding and starting, on the same text, results compared.

    python benchmarks/tokenizer.py corpus --folder DIR      texts from ../shared/data and the installed Python code
    python benchmarks/tokenizer.py train --folder DIR       100 MB mix, vocabulary 32,000: time, memory, merges
    python benchmarks/tokenizer.py scale --folder DIR       2 GB beside 100 MB
    python benchmarks/tokenizer.py encode --folder DIR      10 MB of each kind, cl100k, one thread, cold and warm
    python benchmarks/tokenizer.py parallel --folder DIR    100 MB on one thread and on two
    python benchmarks/tokenizer.py decode --folder DIR      the ids of 10 MB
    python benchmarks/tokenizer.py start --folder DIR       from a new process to the first ids

Every measurement is a process of its own, and contenders take turns: all of them once, then all again (--repeats);
figures are medians. On one thread a process is tied to one processor. A first pass is that of a new process. Peers
that are not installed get a line that says so. Groundup need not be installed: `PYTHONPATH=src` is enough.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import tokenizer_corpus as corpus
import tokenizer_peers as peers
from groundup.tokenizer.pretokenize import PATTERNS
from tokenizer_rounds import Rounds, answer, installed, load, note, print_machine, print_table

_PACKAGES = ("tiktoken", "tokenizers", "gigatoken", "fastokens", "snaptokens", "quicktok-v1")
_TRAINING_PACKAGES = ("tokenizers", "rustbpe", "bpeasy", "gigabpe", "gigatoken")
_OURS = "groundup"
Job = dict[str, Any]
Column = tuple[str, int]
"""The name of a text, and threads."""


# Training


def train(arguments: argparse.Namespace) -> None:
    print_machine(_TRAINING_PACKAGES)
    names = [name for name in peers.TRAINERS if _wanted(name, arguments.only)]
    for pattern in arguments.patterns:
        chosen = [name for name in names if pattern in peers.TRAINERS[name].patterns]
        rounds, verdicts = Rounds(), Verdicts()
        for _ in range(arguments.repeats):
            for threads in arguments.threads:
                for name in chosen:
                    _train_once(rounds, verdicts, (name, threads, corpus.TRAINING), pattern, arguments)
        megabytes = _megabytes(arguments.folder, corpus.TRAINING)
        for threads in arguments.threads:
            print(
                f"Training, {pattern} pattern, {megabytes:.0f} MB mix, vocabulary {arguments.vocabulary:,}, ",
                end="",
            )
            print(f"{threads} thread(s), median of {arguments.repeats}\n")
            keys = [(name, threads, corpus.TRAINING) for name in chosen]
            print_table(_TRAINING_HEADER, [_training_row(rounds, verdicts, key, megabytes) for key in keys])
    print(load())


def scale(arguments: argparse.Namespace) -> None:
    print_machine(_TRAINING_PACKAGES)
    names = [name for name in peers.TRAINERS if _wanted(name, arguments.only)]
    rounds, verdicts = Rounds(), Verdicts()
    keys = [
        (name, threads, text)
        for threads in arguments.threads
        for name in names
        for text in (corpus.TRAINING, corpus.LARGE)
    ]
    for _ in range(arguments.repeats):
        for key in keys:
            _train_once(rounds, verdicts, key, arguments.pattern, arguments)
    print(f"Training on more text, {arguments.pattern} pattern, vocabulary {arguments.vocabulary:,}\n")
    rows = []
    for key in keys:
        megabytes = _megabytes(arguments.folder, key[2])
        row = _training_row(rounds, verdicts, key, megabytes)
        rows.append([f"{row[0]}, {key[1]} thread(s), {megabytes:.0f} MB", *row[1:]])
    print_table(_TRAINING_HEADER, rows)
    print(load())


_TRAINING_HEADER = (
    "trainer", "given", "wall s (min to max)", "CPU s", "MB/s", "against ours", "peak MB", "before MB", "merges",
)  # fmt: skip


class Verdicts:
    """Whether merges are those of the first contender of the same rule on the same text."""

    def __init__(self) -> None:
        self._first: dict[Any, tuple[str, peers.Merges]] = {}
        self.of: dict[Any, str] = {}

    def judge(self, key: Any, merges: peers.Merges) -> None:
        name, _, text = key
        first, expected = self._first.setdefault((peers.TRAINERS[name].same, text), (name, merges))
        if len(expected[0]) != len(merges[0]):
            expected, merges = [[["".join(merge)] for merge in side] for side in (expected, merges)]
        common = min(len(expected), len(merges))
        differs = next((rank for rank in range(common) if expected[rank] != merges[rank]), None)
        verdict = f"{len(merges)}, " + ("as" if differs is None else f"from {differs} on unlike") + f" '{first}'"
        if differs is not None or key not in self.of:
            self.of[key] = verdict


def _train_once(
    rounds: Rounds, verdicts: Verdicts, key: tuple[str, int, str], pattern: str, arguments: argparse.Namespace
) -> None:
    name, threads, text = key
    job = {
        "task": "train",
        "contender": name,
        "text": str(corpus.text(arguments.folder, text).path),
        "threads": threads,
        "training": peers.Task(arguments.vocabulary, pattern, PATTERNS[pattern], threads)._asdict(),
    }
    if given := rounds.measure(key, job, peers.TRAINERS[name].package):
        verdicts.judge(key, given.pop("merges"))


def _training_row(rounds: Rounds, verdicts: Verdicts, key: tuple[str, int, str], megabytes: float) -> list[str]:
    name, threads, text = key
    feed = peers.TRAINERS[name].feed
    if key in rounds.failures:
        return [name, feed, rounds.failures[key]]
    ours = (f"{_OURS}, from the file" if feed == "file" else _OURS, threads, text)
    all_seconds = [given["seconds"] for given in rounds.answers[key]]
    seconds = statistics.median(all_seconds)
    return [
        name,
        feed,
        f"{seconds:.2f} ({min(all_seconds):.2f} to {max(all_seconds):.2f})",
        f"{rounds.median(key, 'cpu'):.2f}",
        f"{megabytes / seconds:.1f}",
        f"{seconds / rounds.median(ours, 'seconds'):.2f}x" if rounds.answers.get(ours) else "",
        f"{rounds.median(key, 'peak') / 1e6:.0f}",
        f"{rounds.median(key, 'before') / 1e6:.0f}",
        verdicts.of[key],
    ]


# Encoding and decoding


def encode(arguments: argparse.Namespace) -> None:
    _compare("encode", arguments, [(kind, 1) for kind in arguments.kinds])


def parallel(arguments: argparse.Namespace) -> None:
    _compare("encode in parallel", arguments, [(corpus.TRAINING, threads) for threads in arguments.threads])


def decode(arguments: argparse.Namespace) -> None:
    corpus.write_cl100k(arguments.folder)
    for kind in arguments.kinds:
        ids = corpus.text(arguments.folder, kind).path.with_suffix(".ids.npy")
        # Every time anew: the ids of an earlier corpus would go unnoticed.
        answer(_coding_job("encode", 0, (kind, 1), arguments, ids), peers.ENCODERS[0].package)
    _compare("decode", arguments, [(kind, 1) for kind in arguments.kinds])


def _coding_job(task: str, contender: int, column: Column, arguments: argparse.Namespace, made: Path) -> Job:
    return {
        "task": task,
        "contender": contender,
        "text": str(corpus.text(arguments.folder, column[0]).path),
        "threads": column[1],
        "passes": arguments.passes,
        "budget": arguments.budget,
        "made": str(made),
    }


def _compare(task: str, arguments: argparse.Namespace, columns: list[Column]) -> None:
    """Measure every coder on every column, compare what they make, and print."""
    corpus.write_cl100k(arguments.folder)
    print_machine(_PACKAGES)
    coders = {n: coder for n, coder in enumerate(peers.CODERS[task]) if _wanted(coder.package, arguments.only)}
    rounds, wrong = Rounds(), defaultdict(set)
    references: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        made_file = Path(folder) / "made.npy"
        turns = [(number, column) for column in columns for number in coders] * arguments.repeats
        for number, column in turns:
            job = _coding_job(task, number, column, arguments, made_file)
            if given := rounds.measure((number, column), job, coders[number].package):
                megabytes, (first, *later) = _megabytes(arguments.folder, column[0]), given["seconds"]
                given |= {"cold": megabytes / first, "first": first}
                given |= {"warm": megabytes / statistics.median(later), "best": megabytes / min(later)}
                made = np.load(made_file)
                wrong[number] |= _faults(references.setdefault(column[0], made), made, given["steady"], column[0])
    _print_speeds(task, coders, columns, rounds, wrong)
    print(load())


def _faults(expected: np.ndarray, made: np.ndarray, steady: bool, text: str) -> set[str]:
    faults = set() if steady else {f"{text}: the last pass is unlike the first"}
    if not np.array_equal(expected, made):
        common = min(len(expected), len(made))
        places = np.flatnonzero(expected[:common] != made[:common])
        faults.add(f"{text}: unlike from {places[0] if len(places) else common} on")
    return faults


def _print_speeds(
    task: str, coders: dict[int, peers.Coder], columns: list[Column], rounds: Rounds, wrong: dict[int, set[str]]
) -> None:
    heads = [text if threads == 1 else f"{text}, {threads} threads" for text, threads in columns]

    def print_cells(title: str, cell: Callable[[Any], str], verdicts: bool = False) -> None:
        print(f"{title}\n")
        rows = []
        for number, coder in coders.items():
            keys = [(number, column) for column in columns]
            row = [coder.package, f"`{coder.call}`", coder.takes]
            row += [rounds.failures[key].split(":")[0] if key in rounds.failures else cell(key) for key in keys]
            if verdicts and any(rounds.answers.get(key) for key in keys):
                row.append("; ".join(sorted(wrong[number])) or "same")
            rows.append(row)
        print_table(["package", "call", "given", *heads, *["result"] * verdicts], rows)

    def medians(key: Any, fields: tuple[str, ...], digits: int) -> str:
        return " / ".join(f"{rounds.median(key, field):.{digits}f}" for field in fields)

    title = f"MB/s of text, {task}: first pass / median of the later ones / best of them"
    print_cells(title, lambda key: medians(key, ("cold", "warm", "best"), 1), verdicts=True)
    print_cells("Seconds: loading cl100k / first pass", lambda key: medians(key, ("loading", "first"), 3))
    for failure in sorted({f"{coders[key[0]].package}: {words}" for key, words in rounds.failures.items()}):
        print(f"- {failure}\n")
    if columns[-1][1] != columns[0][1]:
        print_cells(
            f"{heads[-1]}, against {heads[0]}, times: first pass / median of the later ones",
            lambda key: _ratios(rounds, key, (key[0], columns[0])),
        )
    ours = next((number for number, coder in coders.items() if coder.package == _OURS), None)
    if ours is not None and all(rounds.answers.get((ours, column)) for column in columns):
        print_cells(
            "Groundup's first line is faster, times: first pass / median of the later ones",
            lambda key: _ratios(rounds, (ours, key[1]), key),
        )


def _ratios(rounds: Rounds, key: Any, other: Any) -> str:
    return " / ".join(
        f"{rounds.median(key, field) / rounds.median(other, field):.2f}" for field in ("cold", "warm")
    )


# Starting

_IMPORT_OURS = "from groundup.tokenizer import Tokenizer"
_STARTS = {
    "groundup, .tiktoken": (_OURS, _IMPORT_OURS, "Tokenizer.load(Path({ranks!r}))"),
    "groundup, tokenizer.json": (_OURS, _IMPORT_OURS, "Tokenizer.load(Path({json!r}))"),
    "groundup, train": (_OURS, _IMPORT_OURS, "Tokenizer.train(['the first call of a fresh installation'], 280)"),
    "tiktoken": ("tiktoken", "import tiktoken", "tiktoken.get_encoding('cl100k_base')"),
    "gigatoken": ("gigatoken", "from gigatoken import Tokenizer", "Tokenizer.from_tiktoken({ranks!r})"),
    "fastokens": (
        "fastokens",
        "from fastokens import Tokenizer",
        "Tokenizer.from_tiktoken({ranks!r}, encoding='cl100k_base')",
    ),
    "snaptokens": ("snaptokens", "from snaptokens import Tokenizer", "Tokenizer.from_file({json!r})"),
    "quicktok-v1": ("quicktok-v1", "import quicktok", "quicktok.get_encoding('cl100k_base')"),
    "tokenizers": ("tokenizers", "from tokenizers import Tokenizer", "Tokenizer.from_file({json!r})"),
}
_START = """
from time import perf_counter as now
from pathlib import Path
times = [now()]
{imports}
times.append(now())
tokenizer = {load}
times.append(now())
tokenizer.encode("Hello, world: 你好!")
times.append(now())
print(*times)
"""


def start(arguments: argparse.Namespace) -> None:
    corpus.write_cl100k(arguments.folder)
    print_machine(_PACKAGES)
    files = {
        "ranks": str(arguments.folder / corpus.TIKTOKEN_FILE),
        "json": str(arguments.folder / corpus.JSON_FILE),
    }
    programs = {
        name: (package, _START.format(imports=imports, load=loading.format(**files)))
        for name, (package, imports, loading) in _STARTS.items()
        if _wanted(name, arguments.only)
    }
    rows = [_start_row(name, *program, arguments, fresh=False) for name, program in programs.items()]
    rows += [
        _start_row(f"{name}, no byte code yet", *program, arguments, fresh=True)
        for name, program in programs.items()
        if program[0] == _OURS
    ]
    print(f"Seconds from a new process to the first ids (cl100k), median of {arguments.repeats} (slowest)\n")
    print_table(["tokenizer", "import", "load", "first encode", "whole process", "slowest"], rows)
    print(load())


def _start_row(name: str, package: str, program: str, arguments: argparse.Namespace, *, fresh: bool) -> list[str]:
    """`fresh` processes find no compiled Python modules, as the first one after an installation."""
    if not installed(package):
        return [name, "not installed"]
    parts: list[list[float]] = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"TIKTOKEN_CACHE_DIR": str(arguments.folder)}
            environment |= {"PYTHONPYCACHEPREFIX": folder} if fresh else {}
            began = time.perf_counter()
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            whole = time.perf_counter() - began
        if done.returncode:
            return [name, f"failed: {done.stderr.strip().splitlines()[-1][:160]}"]
        times = [float(word) for word in done.stdout.split()]
        parts.append([*(after - before for before, after in pairwise(times)), whole])
    note(name)
    medians = [statistics.median(column) for column in zip(*parts, strict=True)]
    return [name, *(f"{seconds:.3f}" for seconds in medians), f"{max(part[-1] for part in parts):.3f}"]


def _megabytes(folder: Path, name: str) -> float:
    return corpus.text(folder, name).path.stat().st_size / 1e6


def _wanted(name: str, only: list[str] | None) -> bool:
    return only is None or any(name.startswith(word) for word in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(function: Callable[[argparse.Namespace], None], *, repeats: int = 3) -> argparse.ArgumentParser:
        made = commands.add_parser(function.__name__)
        made.set_defaults(function=function)
        made.add_argument("--folder", type=Path, required=True, help="where the texts are")
        made.add_argument("--repeats", type=int, default=repeats)
        made.add_argument("--only", nargs="+", help="contenders whose names start so")
        return made

    build = commands.add_parser("corpus")
    build.set_defaults(function=lambda given: corpus.build(given.folder, given.shared, given.scale))
    build.add_argument("--folder", type=Path, required=True, help="where to write, some 2.3 GB")
    build.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    build.add_argument("--scale", type=float, default=1.0, help="0.01: a hundredth of every size")
    for function in (train, scale):
        made = command(function, repeats=1 if function is scale else 3)
        made.add_argument("--threads", type=int, nargs="+", default=[1, 2])
        made.add_argument("--vocabulary", type=int, default=32_000)
        if function is train:
            made.add_argument("--patterns", nargs="+", default=["cl100k", "gpt2"])
        else:
            made.add_argument("--pattern", default="cl100k")
            made.set_defaults(only=[f"{_OURS}, from the file"])
    for function in (encode, parallel, decode):
        made = command(function)
        made.add_argument("--passes", type=int, default=7, help="over the text, in each process")
        made.add_argument(
            "--budget", type=float, default=10, help="seconds; no new pass after them, but two at least"
        )
        if function is parallel:
            made.add_argument("--threads", type=int, nargs="+", default=[1, 2])
        else:
            made.add_argument("--kinds", nargs="+", choices=corpus.SAMPLES, default=corpus.SAMPLES)
    command(start, repeats=10)
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
