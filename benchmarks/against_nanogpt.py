"""groundup and nanoGPT's CPU recipe on the same text in the same time, by bits per byte of the same held-out text.

    python benchmarks/against_nanogpt.py --nanogpt ~/nanoGPT --train a.txt --held-out b.txt --budget 120

nanoGPT is a checkout of its public repository. Its side runs its own `train.py` with the command of its README
for CPUs (characters, 4 layers, width 128, context 64, batch 12), its steps and the decay of its learning rate
set so that preparation, start and training together take the budget; groundup's side is `groundup build
--budget`, tokenizer, evaluation and report included, with an empty cache. Both get all cores, one after the
other; nothing else may run.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_README_RECIPE = [
    "config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=10",
    "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0",
]  # fmt: skip
_EVALUATE = """
import sys, math, numpy as np, torch
sys.path.insert(0, sys.argv[1])
from model import GPT, GPTConfig
saved = torch.load(sys.argv[2], map_location="cpu", weights_only=False)
model = GPT(GPTConfig(**saved["model_args"]))
model.load_state_dict({k.removeprefix("_orig_mod."): v for k, v in saved["model"].items()})
model.eval()
ids = np.fromfile(sys.argv[3], dtype=np.uint16).astype(np.int64)
T = model.config.block_size
n = (len(ids) - 1) // T
nats = 0.0
with torch.no_grad():
    for first in range(0, n, 64):
        last = min(first + 64, n)
        part = torch.from_numpy(ids[first * T : last * T + 1])
        _, loss = model(part[:-1].view(-1, T), part[1:].view(-1, T))
        nats += loss.item() * (last - first) * T
print(nats / math.log(2), n * T)
"""


def nanogpt(checkout: Path, train: str, held_out: str, seconds: float, work: Path) -> dict[str, float]:
    """Bits per byte of nanoGPT's README recipe after `seconds` in all."""
    started = time.time()
    data = checkout / "data" / "groundup_benchmark"
    data.mkdir(exist_ok=True)
    characters = sorted(set(train) | set(held_out))
    index = {character: number for number, character in enumerate(characters)}
    for name, text in (("train", train), ("val", held_out)):
        np.array([index[character] for character in text], dtype=np.uint16).tofile(data / f"{name}.bin")
    (data / "meta.pkl").write_bytes(
        pickle.dumps({"vocab_size": len(characters), "stoi": index, "itos": dict(enumerate(characters))})
    )
    prepared = time.time() - started

    def run(steps: int) -> float:
        began = time.time()
        command = [
            sys.executable,
            "train.py",
            *_README_RECIPE,
            "--dataset=groundup_benchmark",
            f"--out_dir={work}",
        ]
        command += [f"--max_iters={steps}", f"--lr_decay_iters={steps}", f"--eval_interval={steps}"]
        subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
        return time.time() - began

    # Two short runs (longer than the warm-up of 100 steps) tell start and step apart.
    short, long = run(200), run(600)
    step = (long - short) / 400
    steps = int((seconds - prepared - (short - 200 * step)) / step)
    spent = prepared + run(steps)
    scored = subprocess.run(
        [sys.executable, "-c", _EVALUATE, str(checkout), str(work / "ckpt.pt"), str(data / "val.bin")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    bits, count = map(float, scored.stdout.splitlines()[-1].split())  # its model speaks before
    scored_bytes = len(held_out[: int(count) + 1].encode()) - len(held_out[0].encode())
    return {"bits_per_byte": bits / scored_bytes, "seconds": spent, "steps": steps, "tokens": steps * 12 * 64}


def groundup(train: Path, held_out: Path, seconds: float, work: Path, settings: list[str]) -> dict[str, float]:
    """The outcome of `groundup build` within `seconds`, and `groundup eval` on the whole held-out text."""
    environment = os.environ | {"GROUNDUP_CACHE": str(work / "cache")}
    run = work / "run"
    options = [option for setting in settings for option in ("--set", setting)]
    command = ["groundup", "build", str(train), "--budget", f"{seconds:g}s", "--out", str(run), "--json", *options]
    began = time.time()
    built = subprocess.run(
        [*command, "--set", f"data.validation={held_out}"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    spent = time.time() - began
    scored = subprocess.run(
        ["groundup", "eval", str(run), "--text", str(held_out), "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    outcome, evaluation = json.loads(built.stdout), json.loads(scored.stdout)
    plan = json.loads((run / "plan.json").read_text())
    return {
        "bits_per_byte": evaluation["bits_per_byte"],
        "expected": plan["bits_per_byte"],
        "seconds": spent,
        "steps": outcome["steps"],
        "tokens": outcome["tokens"],
        "parameters": outcome["parameters"],
        "sample": json.loads((run / "samples.jsonl").read_text().splitlines()[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds")
    parser.add_argument("--set", action="append", default=[], help="passed on to groundup build")
    arguments = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as work:
        rows["groundup"] = groundup(
            arguments.train, arguments.held_out, arguments.budget, Path(work), arguments.set
        )
        if arguments.nanogpt:
            rows["nanoGPT"] = nanogpt(
                arguments.nanogpt.resolve(),
                arguments.train.read_text("utf-8"),
                arguments.held_out.read_text("utf-8"),
                arguments.budget,
                Path(work) / "nanogpt",
            )
    print(json.dumps({"load_average": os.getloadavg()[0], **rows}, ensure_ascii=False, indent=1))
    if "nanoGPT" in rows:
        ratio = rows["groundup"]["bits_per_byte"] / rows["nanoGPT"]["bits_per_byte"]
        print(f"groundup / nanoGPT, bits per byte: {ratio:.3f}")


if __name__ == "__main__":
    main()
