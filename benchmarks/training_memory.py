"""`training.py memory`: the peak of a training step beside plain PyTorch, at the same shape and batch.

Plain PyTorch is nanoGPT's model and step: logits held whole, nothing computed again. Its bf16 is autocast
around them. The peak of a step is told twice: in tensors, counted one by one as they are made and freed, which is
what a GPU's allocator reports; and of resident memory since the first step began (VmHWM, cleared), less what the
process held with its packages and no model, where the kernels' code and scratch memory, and freed memory that
groundup keeps as it does in a build, are counted in. The time is measured in the same turns.
"""

import argparse
import dataclasses
import json
import sys

import torch

from groundup.recipe import TrainRecipe
from groundup.train.memory import peak_of, record_steps
from tokenizer_rounds import load, print_machine, print_table
from training_contenders import MEMORY, groundup_shape
from training_peers import nanogpt_model, pair
from training_rounds import SHAPES, Rounds, Turns
from training_worker import Batches, Job

_PLAIN = "plain PyTorch, fp32"


def memory(arguments: argparse.Namespace) -> None:
    """A table for each vocabulary."""
    print_machine(("torch",))
    written = {}
    for vocabulary in arguments.vocabularies:
        sources = {"nanogpt": str(arguments.nanogpt)}
        job = Job("", {}, **SHAPES["M"], vocabulary=vocabulary, threads=arguments.threads, sources=sources)
        with Rounds(job, MEMORY, sys.executable) as rounds:
            rounds.run(arguments.rounds, arguments.seconds)
            turns, failures = rounds.turns(), rounds.failures
        tensors = {name: _tensor_bytes(name, job) for name in turns}
        print(
            f"6 layers, width 384, 6 heads, T 256, batch 8, vocabulary {vocabulary:,}, {job.threads} threads, "
            f"{arguments.rounds} rounds of {arguments.seconds:g} s each\n"
        )
        print_table(_HEADER, [_row(name, turns, failures, tensors) for name in MEMORY])
        written[vocabulary] = {
            name: dataclasses.asdict(given) | {"tensor_bytes": tensors[name]} for name, given in turns.items()
        }
    print(load())
    if arguments.json:
        arguments.json.write_text(json.dumps(written, indent=1))


def _tensor_bytes(name: str, job: Job) -> int:
    """Of a later step, when the optimizer has its states: the most that tensors hold."""
    options = MEMORY[name].options
    if "family" not in options:
        return _plain_tensor_bytes(job, autocast=bool(options.get("autocast")))
    shape, settings = groundup_shape(job, options["family"]), TrainRecipe(optimizer="adamw")
    settings.recompute = options["recompute"]
    return record_steps(shape, settings, precision=options["precision"], batch_size=job.batch)[1].peak


def _plain_tensor_bytes(job: Job, *, autocast: bool) -> int:
    model = nanogpt_model(job)
    optimizer = model.configure_optimizers(job.weight_decay, job.lr, (job.beta1, job.beta2), "cpu")
    inputs, targets = pair(Batches(job).windows(0))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(inputs, targets)[1]
        loss.backward()
        del loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    return peak_of(step, [*model.parameters(), *model.buffers(), *states])


_HEADER = (
    "", "tensors of a step, MB", "of plain fp32", "peak of the process, MB", "of the step, MB",
    "of plain fp32", "of plain, same products",
    "ms a step", "time, of none recomputed",
)  # fmt: skip


def _row(name: str, turns: dict[str, Turns], failures: dict[str, str], tensors: dict[str, int]) -> list[str]:
    if name not in turns:
        return [name, failures[name]]
    given = turns[name]

    def share(other: str) -> str:
        return f"{_step_bytes(given) / _step_bytes(turns[other]):.2f}x" if other in turns else ""

    base = name.partition(", recompute")[0] + ", recompute none"
    return [
        name,
        f"{tensors[name] / 1e6:.0f}",
        f"{tensors[name] / tensors[_PLAIN]:.2f}x",
        f"{given.peak / 1e6:.0f}",
        f"{_step_bytes(given) / 1e6:.0f}",
        share(_PLAIN),
        share(_PLAIN if "fp32" in name else "plain PyTorch, bf16"),
        f"{1e3 * given.seconds:.1f}",
        f"{given.seconds / turns[base].seconds:.2f}x" if base in turns else "",
    ]


def _step_bytes(given: Turns) -> int:
    return given.peak - given.before
