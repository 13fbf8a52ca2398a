"""Training beside its peers on a CPU: speed, stalls, growth with size and length, memory, and time to a loss.

    python benchmarks/training.py speed --shape M PEERS              tokens/s beside nanoGPT and the others
    python benchmarks/training.py memory --nanogpt DIR               the peak of a step beside plain PyTorch
    python benchmarks/training.py grow --plot FILE.html              5M and 50M parameters, T 128 to 2048
    python benchmarks/training.py stall --text FILE --budget 60s     a build's time outside its steps
    python benchmarks/training.py time-to-loss --nanogpt DIR --train FILE --held-out FILE

PEERS are `--nanogpt DIR --litgpt DIR --minimind DIR --nanochat DIR` (checkouts of their public repositories),
`--llmc PROGRAM` and `--peers-python PYTHON` (with torch, transformers, accelerate and lightning installed);
what is not given gets a line that says so. `--llmc` is a program around the functions of llm.c's train_gpt2.c,
compiled as its Makefile does: called with checkpoint, windows (int32, (n, B, T + 1)), B, T, beta1, beta2 and
weight decay it prints `ready`, and for each line `k rate_1 ... rate_k` of its standard input takes k steps and
prints `seconds s loss_1 ... loss_k`.

Speed: every contender is a process of its own that stays; after warm-up they take turns, a few seconds each,
all of them once and then all again. Figures are medians over the rounds. The batches are the same for all, cut
from the bytes of `--text` (vocabulary 256), from its tokens under a groundup tokenizer of the vocabulary, or
from random ids. FLOP/s are (6 N + 12 L d T) a token for all, with N the parameters without embeddings and
unembedding, so that what the unembedding costs counts for nothing; the peak is the fastest of a few products of
matrices in the same rounds. Contenders of nanoGPT's model start from nanoGPT's weights and take its AdamW:
their losses must stay together.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import training_grow
import training_memory
import training_stall
import training_time_to_loss
from tokenizer_rounds import load, note, print_machine, print_table
from training_contenders import ALL, CONTENDERS, PEAK, REFERENCE
from training_rounds import SHAPES, Rounds, Turns, flops_per_token, peak_flops
from training_worker import Job

_SOURCES = ("nanogpt", "litgpt", "minimind", "nanochat", "llmc")
# The loss that is compared is the mean of so many last steps.
_LAST_STEPS = 20


def speed(arguments: argparse.Namespace) -> None:
    """Tokens/s side by side."""
    names = [name for name in CONTENDERS if name == REFERENCE or _wanted(name, arguments.only)]
    with tempfile.TemporaryDirectory() as folder:
        job = _job(arguments, Path(folder))
        with Rounds(job, [*names, *PEAK], arguments.peers_python) as rounds:
            rounds.run(arguments.rounds, arguments.seconds)
            rounds.continue_to(arguments.steps, [name for name in names if ALL[name].same_model])
            turns, failures = rounds.turns(), rounds.failures
    peak = peak_flops(turns)
    print_machine(("torch",))
    print(f"{_checkouts(arguments)}. Versions: {_versions(turns)}.\n")
    print(
        f"{job.layers} layers, width {job.width}, {job.heads} heads, T {job.context}, batch {job.batch}, "
        f"vocabulary {job.vocabulary:,}, {job.threads} threads, {arguments.text or 'random ids'}; "
        f"{arguments.rounds} rounds of {arguments.seconds:g} s each; bf16 peak {peak / 1e9:.0f} GFLOP/s\n"
    )
    print_table(_HEADER, [_row(name, turns, failures, job, peak, arguments.steps) for name in names])
    print(load())
    if arguments.json:
        _write_json(arguments.json, job, turns, failures, peak)


_HEADER = (
    "", "parameters", "tokens/s (min to max)", "times nanoGPT", "ms a step", "GFLOP/s", "of the peak",
    "peak MB", "first loss", "last loss", "nanoGPT's", "largest difference",
)  # fmt: skip


def _row(
    name: str, turns: dict[str, Turns], failures: dict[str, str], job: Job, peak: float, steps: int
) -> list[str]:
    if name not in turns:
        return [name, failures.get(name, "not run")]
    given = turns[name]
    rates = [job.batch * job.context / seconds for seconds in given.seconds_a_step]
    median = statistics.median(rates)
    flops = median * flops_per_token(given.in_blocks, job)
    row = [
        name + (f" ({_chosen(given.settings)})" if given.settings and "chooses" in name else ""),
        f"{given.parameters / 1e6:.2f}M",
        f"{median:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{turns[REFERENCE].seconds / given.seconds:.2f}" if REFERENCE in turns else "",
        f"{1e3 * given.seconds:.1f}",
        f"{flops / 1e9:.0f}",
        f"{flops / peak:.0%}",
        f"{given.peak / 1e6:.0f}",
        f"{given.losses[0]:.5f}",
    ]
    if REFERENCE not in turns:
        return row
    return row + _parity(given.losses, turns[REFERENCE].losses, steps if ALL[name].same_model else 0)


def _parity(losses: list[float], expected: list[float], steps: int) -> list[str]:
    """Last loss, nanoGPT's at the same steps, and how far apart they ever were, within `steps`."""
    common = min(len(losses), len(expected), steps or len(losses))
    last = slice(max(0, common - _LAST_STEPS), common)
    row = [f"{np.mean(losses[last]):.4f} at {common}", f"{np.mean(expected[last]):.4f}"]
    if steps:
        row.append(f"{np.abs(np.subtract(losses[:common], expected[:common])).max():.1e}")
    return row


def _chosen(settings: dict[str, Any]) -> str:
    words = [settings["precision"], f"compile {settings['compile']}"]
    return ", ".join(words + [f"recompute {settings['recompute']}"] * (settings["recompute"] != "none"))


def _job(arguments: argparse.Namespace, folder: Path) -> Job:
    """The job of a shape, with its ids written to the folder."""
    shape = SHAPES[arguments.shape]
    ids = _ids(arguments.text, arguments.vocabulary, folder) if arguments.text else None
    sources = {name: str(given) for name in _SOURCES if (given := getattr(arguments, name, None))}
    return Job(
        "", {}, **shape, vocabulary=arguments.vocabulary, ids=ids, threads=arguments.threads, sources=sources
    )


def _ids(text: Path, vocabulary: int, folder: Path) -> str:
    """The token ids of a text file: its bytes, or those of a tokenizer trained on it."""
    content = text.read_bytes()
    if vocabulary == 256:
        ids = np.frombuffer(content, np.uint8)
    else:
        from groundup.tokenizer import Tokenizer

        ids = Tokenizer.train([content.decode()], vocabulary).encode_array(content)
    path = folder / "ids.npy"
    np.save(path, np.asarray(ids, np.uint16))
    note(f"{text}: {len(ids):,} ids")
    return str(path)


def _checkouts(arguments: argparse.Namespace) -> str:
    found = []
    for name in _SOURCES:
        if given := getattr(arguments, name):
            folder = given if given.is_dir() else given.parent
            command = ["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"]
            commit = (
                subprocess.run(command, capture_output=True, text=True).stdout.strip() if given.is_dir() else ""
            )
            found.append(f"{name} {commit or given}")
    return "Checkouts: " + (", ".join(found) or "none")


def _versions(turns: dict[str, Turns]) -> str:
    every = {(package, version) for given in turns.values() for package, version in given.versions.items()}
    return ", ".join(f"{package} {version}" for package, version in sorted(every))


def _write_json(path: Path, job: Job, turns: dict[str, Turns], failures: dict[str, str], peak: float) -> None:
    content = {
        "command": sys.argv,
        "load_average": os.getloadavg(),
        "job": dataclasses.asdict(job),
        "bf16_peak_flops": peak,
        "contenders": {name: dataclasses.asdict(given) for name, given in turns.items()},
        "failures": failures,
    }
    path.write_text(json.dumps(content, indent=1))


def _wanted(name: str, only: list[str] | None) -> bool:
    return only is None or any(name.startswith(word) for word in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        made = commands.add_parser(name)
        made.set_defaults(function=function)
        made.add_argument("--threads", type=int, default=os.cpu_count())
        made.add_argument("--json", type=Path, help="write everything measured to this file")
        return made

    def in_rounds(made: argparse.ArgumentParser, rounds: int) -> None:
        made.add_argument("--rounds", type=int, default=rounds)
        made.add_argument("--seconds", type=float, default=3.0, help="of each turn, at least one step")

    made = command("speed", speed)
    in_rounds(made, 7)
    made.add_argument("--shape", choices=SHAPES, required=True)
    made.add_argument("--vocabulary", type=int, default=256)
    made.add_argument("--text", type=Path, help="train on this file instead of random ids")
    made.add_argument("--steps", type=int, default=200, help="over which losses of nanoGPT's model are compared")
    made.add_argument("--only", nargs="+", help="contenders whose names start so; nanoGPT is always there")
    for name in _SOURCES:
        made.add_argument(f"--{name}", type=Path)
    made.add_argument("--peers-python", default=sys.executable, help="the Python that has the peers' packages")
    made = command("memory", training_memory.memory)
    in_rounds(made, 5)
    made.add_argument("--nanogpt", type=Path, required=True)
    made.add_argument("--vocabularies", type=int, nargs="+", default=[256, 32_000])
    made = command("grow", training_grow.grow)
    in_rounds(made, 3)
    made.add_argument("--tokens", type=int, default=4096, help="a step")
    made.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048])
    made.add_argument("--plot", type=Path, required=True, help="the HTML file to write")
    made = command("stall", training_stall.stall)
    made.add_argument("--text", required=True, help="a file or corpus")
    made.add_argument("--budget", default="60s")
    made.add_argument("--set", action="append", default=[], help="passed on to groundup build")
    made = command("time-to-loss", training_time_to_loss.time_to_loss)
    made.add_argument("--nanogpt", type=Path)
    made.add_argument("--train", type=Path, required=True)
    made.add_argument("--held-out", type=Path, required=True)
    made.add_argument("--reference-seconds", type=float, default=180.0, help="that nanoGPT is given")
    made.add_argument("--target", type=float, help="bits per byte, instead of running nanoGPT")
    made.add_argument("--budgets", type=float, nargs="+", default=[15.0, 20.0, 30.0], help="seconds")
    made.add_argument("--repeats", type=int, default=1, help="with seeds 1, 2, ...")
    made.add_argument("--set", action="append", default=[], help="passed on to groundup build")
    arguments = parser.parse_args()
    for name in _SOURCES:
        if path := getattr(arguments, name, None):
            setattr(arguments, name, path.resolve())
    arguments.function(arguments)


if __name__ == "__main__":
    main()
