"""`planner.py runs`: the loss of a longer run, predicted from runs of under a minute on this machine.

`groundup scaling sweep` and `fit` on the text, then `groundup build` for the longer budget with the same
vocabulary and context; the law is asked for that run's parameters and tokens. Held-out text is a file of its own,
small enough that every run is measured on all of it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tokenizer_rounds import load, print_machine, print_table

_GROUNDUP = [sys.executable, "-c", "import sys; from groundup.cli.main import main; sys.exit(main())"]


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand `runs`."""
    parser = subparsers.add_parser("runs", help=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the runs go")
    parser.add_argument("--sweep", default="8m")
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--context", type=int, default=128)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    print_machine(("torch",))
    same = {
        "data.validation": json.dumps([str(arguments.held_out)]),
        "tokenizer.vocabulary_size": arguments.vocabulary,
        "model.context": arguments.context,
    }
    sets = [word for name, value in same.items() for word in ("--set", f"{name}={value}")]
    text, sweep, long = str(arguments.text), arguments.work / "sweep", arguments.work / "long"
    _groundup("scaling", "sweep", text, "--budget", arguments.sweep, "--out", str(sweep), *sets)
    law = arguments.work / "law.json"
    fitted = _groundup("scaling", "fit", str(sweep), "--out", str(law))
    outcome = _groundup("build", text, "--budget", arguments.budget, "--out", str(long), *sets)
    size = json.loads((long / "plan.json").read_text())["non_embedding_parameters"]
    asked = ["--budget", f"{outcome['tokens']}tok", "--params", str(size)]
    expected = _groundup("scaling", "predict", str(law), *asked)
    rows = [json.loads(line) for line in (sweep / "runs.jsonl").read_text().splitlines()]
    print_table(
        ("parameters without embeddings", "tokens", "seconds", "bits per byte"),
        [
            [
                f"{row['parameters']:,}",
                f"{row['tokens']:,}",
                f"{row['seconds']:.0f}",
                f"{row['bits_per_byte']:.4f}",
            ]
            for row in rows
        ],
    )
    print({name: value for name, value in fitted.items() if isinstance(value, float | str)})
    low, high = expected["loss_low"], expected["loss_high"]
    miss = expected["loss"] / outcome["bits_per_byte"] - 1
    print(
        f"{arguments.budget}: {size:,} parameters, {outcome['tokens']:,} tokens: predicted {expected['loss']:.4f} "
        f"({low:.4f} to {high:.4f}), measured {outcome['bits_per_byte']:.4f}: {miss:+.1%}"
    )
    print(load())


def _groundup(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([*_GROUNDUP, *arguments, "--json"], stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
