"""What each regularisation is worth on a text too small for the model: one table.

    nice python benchmarks/regularisation.py --out /tmp/regularisation     # 8 runs of about 15 s on 1 core

The ready recipes of the techniques, and the same recipe without any, train on the first 60 kB of a text and are
measured on the next 40 kB. All read that text through one tokenizer. Finished runs in --out are used again.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from groundup.data import Shards
from groundup.evaluate.bits import evaluate_tokens
from groundup.model.folder import load

_TEXT = Path(__file__).resolve().parents[2] / "shared/data/pretrain_en/tinyshakespeare.txt"
_TRAIN_BYTES, _HELD_OUT_BYTES = 60_000, 40_000
_TECHNIQUES = ["dropout", "label-smoothing", "weight-decay", "early-stopping", "ema"]
_SEEDS = [1, 2, 3]
_LAST = 5


def groundup(*arguments: object) -> dict[str, Any]:
    """The answer of a verb."""
    command = ["groundup", *map(str, arguments), "--json"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


class Runs:
    """Builds into one folder, on one text."""

    def __init__(self, text: Path, out: Path):
        out.mkdir(parents=True, exist_ok=True)
        content = text.read_bytes()[: _TRAIN_BYTES + _HELD_OUT_BYTES]
        self._out, self._train, self._held_out = out, out / "train.txt", out / "held-out.txt"
        self._train.write_bytes(content[:_TRAIN_BYTES])
        self._held_out.write_bytes(content[_TRAIN_BYTES:])
        self._tokenizer: Path | None = None

    def build(self, name: str, recipe: str, **settings: object) -> Path:
        """A run's folder, finished."""
        run = self._out / name
        if not (run / "outcome.json").is_file():
            chosen: dict[str, object] = {"data.validation": self._held_out} | settings
            if self._tokenizer is not None:
                chosen["tokenizer.file"] = self._tokenizer
            options = [part for field, value in chosen.items() for part in ("--set", f"{field}={value}")]
            groundup("build", self._train, "--recipe", recipe, "--out", run, *options)
        self._tokenizer = self._tokenizer or run / "model" / "tokenizer.json"
        return run

    def plain(self, seed: int) -> Path:
        """Without any technique, with checkpoints of its last steps."""
        often = {"train.checkpoint_steps": 10, "train.keep_checkpoints": _LAST}
        return self.build(f"plain-{seed}", "dropout", seed=seed, **{"model.dropout": 0.0}, **often)

    def average_of_last(self, run: Path) -> float:
        """Bits per byte of the average of a run's last checkpoints."""
        merged = run / "merged"
        if not merged.is_dir():
            groundup("merge", *sorted((run / "checkpoints").glob("step-*")), "--out", merged)
        held_out, loaded = Shards.open(run / "shards" / "held-out"), load(merged)
        tokens, lengths = held_out.read(0, held_out.num_tokens), loaded.tokenizer.byte_lengths
        return evaluate_tokens(loaded.model, tokens, lengths, device="cpu", precision="fp32").bits_per_byte


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=_TEXT)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = Runs(arguments.text, arguments.out.absolute())
    plain = [runs.plain(seed) for seed in _SEEDS]
    outcomes = [json.loads((run / "outcome.json").read_text()) for run in plain]
    rows = {f"plain, seed {seed}": found for seed, found in zip(_SEEDS, outcomes, strict=True)}
    for name in _TECHNIQUES:
        rows[name] = json.loads((runs.build(name, name) / "outcome.json").read_text())
    print(f"{'technique':<28} {'bits/byte':>9} {'steps':>6} {'kept':>5} {'seconds':>8}")
    for name, row in rows.items():
        steps, seconds = f"{row['steps']:6} {row['best_step']:5}", f"{row['train_seconds']:8.1f}"
        print(f"{name:<28} {row['bits_per_byte']:9.4f} {steps} {seconds}")
    print(f"{f'last {_LAST} checkpoints of seed 1':<28} {runs.average_of_last(plain[0]):9.4f}")
    together = groundup("eval", plain[0], *(part for run in plain[1:] for part in ("--with", run)))
    print(f"{f'ensemble of {len(plain)} seeds':<28} {together['bits_per_byte']:9.4f}")


if __name__ == "__main__":
    main()
