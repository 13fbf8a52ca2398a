"""Fits the planner's loss law: short builds over model sizes and token counts, then least squares.

    python benchmarks/loss_law.py --out /tmp/law          # about 15 minutes on 2 cores

Each build is `groundup build wiki-en` with a fixed shape and a budget in tokens; finished runs in --out are used
again. Prints each measured bits per byte beside the law's, and the constants for `groundup.plan.loss`.
"""

import argparse
import itertools
import json
import subprocess
from pathlib import Path

import numpy as np

# (layers, width), thousand tokens
_GRID = [
    *itertools.product([(2, 64), (4, 128), (5, 192)], [300, 1000, 3000]),
    *itertools.product([(6, 256)], [300, 1000]),
]
# Hoffmann et al. 2022 (arXiv:2203.15556): runs of a few minutes cannot tell the exponents.
_ALPHA, _BETA = 0.34, 0.28
# Runs of fewer steps than a few hundred are about warming up, not about the law.
_LEAST_TOKENS = 500_000


def measure(layers: int, width: int, kilotokens: int, out: Path) -> dict[str, float]:
    run = out / f"{layers}x{width}-{kilotokens}k"
    if not (run / "outcome.json").is_file():
        settings = {"model.num_layers": layers, "model.width": width, "model.context": 128}
        settings |= {"tokenizer.vocabulary_size": 2048, "train.validations": 1}
        options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        command = ["groundup", "build", "wiki-en", "--budget", f"{kilotokens}ktok", "--out", str(run), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    plan, outcome = (json.loads((run / name).read_text()) for name in ("plan.json", "outcome.json"))
    return {
        "parameters": plan["non_embedding_parameters"],
        "tokens": outcome["tokens"],
        "lr": plan["lr"],
        "bits_per_byte": outcome["bits_per_byte"],
        "compressibility": plan["corpus"]["compressibility"],
        "tokens_per_second": outcome["tokens_per_second"],
    }


def fit(rows: list[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """(E, A, B) by least squares of relative errors, and the law's values."""
    sizes, tokens, measured = (
        np.array([row[key] for row in rows]) for key in ("parameters", "tokens", "bits_per_byte")
    )
    columns = np.stack([np.ones_like(measured), sizes**-_ALPHA, tokens**-_BETA], axis=1)
    factors = np.linalg.lstsq(columns / measured[:, None], np.ones_like(measured), rcond=None)[0]
    return factors, columns @ factors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for (layers, width), kilotokens in _GRID:
        rows.append(measure(layers, width, kilotokens, arguments.out))
        print(json.dumps({"layers": layers, "width": width} | rows[-1]), flush=True)
    rows = [row for row in rows if row["tokens"] >= _LEAST_TOKENS]
    factors, values = fit(rows)
    for row, value in zip(rows, values, strict=True):
        miss = value / row["bits_per_byte"] - 1
        print(
            f"{row['parameters']:10.0f} {row['tokens']:10.0f}  {row['bits_per_byte']:.4f} {value:.4f} {miss:+.1%}"
        )
    print(f"E {factors[0]:.4f}  A {factors[1]:.5g} alpha {_ALPHA}  B {factors[2]:.5g} beta {_BETA}")


if __name__ == "__main__":
    main()
