"""The loss in chunks beside the loss on whole logits: alone, in a training step, and the memory of a run.

    python benchmarks/chunked_loss.py

bf16 on the CPU. Both take turns; medians of a step, the best of the loss alone. Memory: the peak of a process each
(Linux only).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundup.model.registry import build
from groundup.objective import Batch, Loss, causal
from groundup.objective.cross_entropy import chunked_cross_entropy
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.allocator import keep_freed_memory
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.precision import autocast

_ALONE = ((2048, 96, 4096), (2048, 384, 4096), (2048, 384, 32000), (4096, 128, 8192), (768, 128, 2048))
_STEPS = ((2, 64, 2048, 128, 16), (3, 96, 4096, 128, 16), (6, 256, 8192, 256, 8))
_REPEATS = 30


def whole_loss(model: nn.Module, batch: Batch) -> Loss:
    """The cross-entropy of logits that are held."""
    logits = model(batch.inputs_BT).flatten(0, 1).float()
    return Loss(F.cross_entropy(logits, batch.targets_BT.flatten()), batch.targets_BT.numel())


_LOSSES: dict[str, Callable[[nn.Module, Batch], Loss]] = {"whole": whole_loss, "chunked": causal.loss}


def alone(tokens: int, width: int, vocabulary: int) -> dict[str, float]:
    """Milliseconds of forward and backward of the unembedding and the loss."""
    x = torch.randn(tokens, width, requires_grad=True)
    weight = (0.02 * torch.randn(vocabulary, width)).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,))

    def whole(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x, weight).float(), targets)

    best = {"whole": float("inf"), "chunked": float("inf")}
    for _ in range(8):
        for name, loss in (("whole", whole), ("chunked", chunked_cross_entropy)):
            before = time.perf_counter()
            with autocast("cpu", "bf16"):
                value = loss(x, weight, targets)
            value.backward()
            x.grad = weight.grad = None
            best[name] = min(best[name], 1e3 * (time.perf_counter() - before))
    return best


def steps(
    names: list[str], layers: int, width: int, vocabulary: int, context: int, batch: int
) -> dict[str, float]:
    """Milliseconds of a training step with each loss, in turns on one model."""
    shape = Shape(
        family="qwen3",
        num_layers=layers,
        width=width,
        num_heads=width // 32,
        num_kv_heads=width // 32,
        head_width=32,
        feedforward_width=width * 8 // 3 // 8 * 8,
        vocabulary_size=vocabulary,
        context=context,
        tied=True,
    )
    model, rng = build(shape), np.random.default_rng(0)
    optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1e-3))
    set_learning_rate(optimizer, 1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_REPEATS):
        for name in names:
            windows = rng.integers(0, vocabulary, (batch, context + 1))
            before = time.perf_counter()
            with autocast("cpu", "bf16"):
                loss = _LOSSES[name](model, causal.collate(windows))
            loss.mean.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds[name].append(time.perf_counter() - before)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-of", choices=_LOSSES, help="run only the largest step with this loss")
    if (only := parser.parse_args().memory_of) is not None:
        keep_freed_memory()
        steps([only], *_STEPS[-1])
        # Not getrusage, which counts what the parent was when it started this process.
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
        return
    print("| tokens x width x vocabulary | whole, ms | chunked, ms |\n|---|---|---|")
    for given in _ALONE:
        found = alone(*given)
        print(f"| {' x '.join(f'{n:,}' for n in given)} | {found['whole']:.1f} | {found['chunked']:.1f} |")
    keep_freed_memory()
    print("\n| layers, width, vocabulary, context, batch | whole, ms a step | chunked |\n|---|---|---|")
    for shape in _STEPS:
        found = steps(list(_LOSSES), *shape)
        print(f"| {', '.join(f'{n:,}' for n in shape)} | {found['whole']:.1f} | {found['chunked']:.1f} |")
    for name in _LOSSES:
        command = [sys.executable, __file__, "--memory-of", name]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"\n{name}: {peak} MB at the peak of a process of the last shape")


if __name__ == "__main__":
    main()
