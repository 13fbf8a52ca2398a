"""What the command-line tests share: how to start it, a tiny recipe, text, and the losses of a run."""

import json
import random
import subprocess
import sys
from pathlib import Path

GROUNDUP = [sys.executable, "-c", "import sys; from groundup.cli.main import main; sys.exit(main())"]
Result = subprocess.CompletedProcess[str]
# A small recipe: quick, and exactly reproducible when its budget is in steps.
# One thread, since tests run side by side.
TINY = ["--recipe", "tiny", "--set", "data.holdout_bytes=8192", "--set", "train.validation_tokens=2048"]
TINY += ["--set", "train.threads=1"]

WORDS = "the a river house tree bird sees finds loves builds small green old quiet and then under over".split()


def make_text(num_bytes: int, seed: int = 0) -> str:
    """English-like sentences from a small grammar of words; deterministic."""
    generator = random.Random(seed)
    sentences: list[str] = []
    size = 0
    while size < num_bytes:
        sentence = " ".join(generator.choice(WORDS) for _ in range(generator.randint(4, 12))).capitalize() + "."
        sentences.append(sentence + ("\n\n" if generator.random() < 0.2 else " "))
        size += len(sentences[-1])
    return "".join(sentences)


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of every training row."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def build_whole(run: Path, *arguments: str) -> None:
    """`groundup build` from beginning to end."""
    subprocess.run(
        [*GROUNDUP, "build", *arguments, "--out", str(run)], check=True, capture_output=True, timeout=240
    )
