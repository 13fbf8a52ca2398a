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
    *itertools.product([(2, 64), (4, 128)], [300, 1000, 3000]),
    *itertools.product([(5, 192)], [300, 1000, 3000]),
    *itertools.product([(6, 256)], [300, 1000]),
]
_EXPONENTS = np.arange(0.10, 0.90, 0.02)


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


def fit(rows: list[dict[str, float]]) -> tuple[np.ndarray, float, float, np.ndarray]:
    """(E, A, B), alpha, beta and the law's values: the exponents by search, the factors by least squares."""
    sizes, tokens, measured = (
        np.array([row[key] for row in rows]) for key in ("parameters", "tokens", "bits_per_byte")
    )
    best = None
    for alpha, beta in itertools.product(_EXPONENTS, _EXPONENTS):
        columns = np.stack([np.ones_like(measured), sizes**-alpha, tokens**-beta], axis=1)
        # Relative errors: each row is divided by what was measured.
        factors = np.linalg.lstsq(columns / measured[:, None], np.ones_like(measured), rcond=None)[0]
        values = columns @ factors
        error = float(np.sum((values / measured - 1) ** 2))
        if (factors > 0).all() and (best is None or error < best[0]):
            best = (error, factors, float(alpha), float(beta), values)
    assert best is not None, "no law with positive terms fits"
    return best[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for (layers, width), kilotokens in _GRID:
        rows.append(measure(layers, width, kilotokens, arguments.out))
        print(json.dumps({"layers": layers, "width": width} | rows[-1]), flush=True)
    factors, alpha, beta, values = fit(rows)
    for row, value in zip(rows, values, strict=True):
        miss = value / row["bits_per_byte"] - 1
        print(
            f"{row['parameters']:10.0f} {row['tokens']:10.0f}  {row['bits_per_byte']:.4f} {value:.4f} {miss:+.1%}"
        )
    print(f"E {factors[0]:.4f}  A {factors[1]:.5g} alpha {alpha:.2f}  B {factors[2]:.5g} beta {beta:.2f}")


if __name__ == "__main__":
    main()
