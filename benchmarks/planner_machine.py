"""`planner.py machine`: step time and peak memory of recipes of different shape, planned and then measured.

The plan knows the machine from `groundup plan calibrate` alone, which is asked for first. Each recipe is then
measured in a process of its own.

`planner.py weights`: times steps of random shapes and fits the default weights of the speed formula to them.
"""

import argparse
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from groundup.pipeline.bench_process import Trial, measure
from groundup.pipeline.calibration import load_calibration
from groundup.plan.calibration import TimedStep, fit_speed
from groundup.plan.memory import train_bytes
from groundup.plan.speed import step_seconds
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family
from groundup.train.allocator import keep_freed_memory
from groundup.train.machine import measure as measure_machine
from groundup.train.machine import measure_step_seconds
from tokenizer_rounds import load, print_machine, print_table

# family, layers, width, context, sequences, vocabulary, settings.
RECIPES: tuple[tuple[str, int, int, int, int, int, dict[str, Any]], ...] = (
    ("qwen3", 2, 64, 128, 8, 512, {}),
    ("gpt2", 4, 128, 64, 12, 256, {"optimizer": "adamw"}),
    ("qwen3", 4, 160, 128, 32, 2048, {}),
    ("llama", 5, 192, 256, 8, 4096, {"precision": "fp32"}),
    ("gpt2", 6, 384, 256, 8, 256, {"optimizer": "adamw"}),
    ("qwen3", 6, 256, 512, 8, 8192, {"recompute": "full"}),
    ("qwen3", 7, 384, 256, 16, 8192, {}),
    ("llama", 4, 512, 256, 16, 10000, {}),
    ("llama", 8, 512, 1024, 4, 4096, {"recompute": "selective"}),
    ("qwen3", 10, 640, 256, 8, 16384, {}),
    ("gpt2", 12, 768, 256, 4, 50257, {"optimizer": "adamw"}),
    ("qwen3", 3, 96, 2048, 2, 1024, {}),
)


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommands `machine` and `weights`."""
    machine = subparsers.add_parser("machine", help=__doc__)
    machine.add_argument("--seconds", type=float, default=3.0)
    machine.set_defaults(run=_machine)
    weights = subparsers.add_parser("weights", help="fit the default weights of the speed formula")
    weights.add_argument("--steps", type=int, default=80)
    weights.add_argument("--seed", type=int, default=1)
    weights.add_argument("--rows", type=Path, help="keep the timed steps here")
    weights.set_defaults(run=_weights)


def shape_of(name: str, layers: int, width: int, context: int, vocabulary: int) -> Shape:
    """A shape of the family's usual proportions."""
    head_width = 32 if width < 384 else 64
    heads = width // head_width
    traits = family(name)
    return Shape(
        family=name,
        num_layers=layers,
        width=width,
        num_heads=heads,
        num_kv_heads=heads // 2 if traits.grouped_query and heads % 2 == 0 else heads,
        head_width=head_width,
        feedforward_width=4 * width if traits.feedforward == "gelu" else -(-width * 8 // 3 // 32) * 32,
        vocabulary_size=vocabulary,
        context=context,
    )


def _machine(arguments: argparse.Namespace) -> None:
    print_machine(("torch",))
    known = load_calibration(TrainRecipe())
    if known is None or not known.probed:
        raise SystemExit("run `groundup plan calibrate` first")
    hardware = known.calibrated()
    rows, time_errors, memory_errors = [], [], []
    for name, layers, width, context, batch, vocabulary, fields in RECIPES:
        shape = shape_of(name, layers, width, context, vocabulary)
        settings = TrainRecipe.model_validate({"compile": "off", "micro_batch": batch} | fields)
        precision = hardware.precision if settings.precision == "auto" else settings.precision
        seconds = step_seconds(shape, batch, hardware, precision, settings)
        peak = train_bytes(shape, batch, precision, settings) * known.corrections(()).peak
        trial = Trial(shape, settings, batch, precision, hardware.device, hardware.threads, seed=1)
        found = measure(trial, arguments.seconds, hardware)
        time_errors.append(seconds / found["step_seconds"] - 1)
        memory_errors.append(peak / found["peak_bytes"] - 1)
        rows.append(
            [
                f"{name}, {layers} x {width}, T {context}, batch {batch}, vocabulary {vocabulary:,}"
                + "".join(f", {value}" for value in fields.values()),
                f"{1e3 * seconds:.1f}",
                f"{1e3 * found['step_seconds']:.1f}",
                f"{time_errors[-1]:+.1%}",
                f"{peak / 1e6:.0f}",
                f"{found['peak_bytes'] / 1e6:.0f}",
                f"{memory_errors[-1]:+.1%}",
            ]
        )
    header = (
        "recipe", "planned, ms a step", "measured", "error", "planned peak, MB", "measured", "error",
    )  # fmt: skip
    print_table(header, rows)
    for what, errors in (("time", time_errors), ("memory", memory_errors)):
        sizes = [abs(error) for error in errors]
        print(f"{what}: median error {statistics.median(sizes):.1%}, largest {max(sizes):.1%}")
    print(load())


def _random_shapes(seed: int) -> Iterator[tuple[Shape, int, str]]:
    """Shapes that take up to about a second a step, without end."""
    draw = random.Random(seed)
    while True:
        name = draw.choice(("qwen3", "qwen3", "llama", "gpt2"))
        width = draw.choice((64, 96, 128, 192, 256, 320, 384, 512, 640, 768))
        layers, context = draw.choice((2, 3, 4, 6, 8, 12)), draw.choice((64, 128, 256, 512, 1024))
        vocabulary = draw.choice((256, 512, 1024, 2048, 4096, 8192, 16384, 32768))
        batch, precision = draw.choice((1, 2, 4, 8, 16, 32)), draw.choice(("bf16", "bf16", "bf16", "fp32"))
        shape = shape_of(name, layers, width, context, vocabulary)
        if 256 <= batch * context <= 8192 and layers * width**2 * batch * context < 1.5e10:
            yield shape, batch, precision


def _weights(arguments: argparse.Namespace) -> None:
    settings = TrainRecipe(compile="off")
    hardware = measure_machine(settings)
    keep_freed_memory()
    steps: list[TimedStep] = []
    for shape, batch, precision in _random_shapes(arguments.seed):
        if len(steps) == arguments.steps:
            break
        own = settings.model_copy(update={"precision": precision})
        seconds = measure_step_seconds(shape, batch, own, hardware)
        steps.append(TimedStep(shape, batch, precision, settings.optimizer, settings.recompute, seconds))
        if arguments.rows:
            rows = [asdict(step) | {"shape": step.shape.model_dump()} for step in steps]
            arguments.rows.write_text(json.dumps({"hardware": asdict(hardware), "steps": rows}))
    weights = fit_speed(steps, hardware, prior=0.0)
    errors = []
    for index, step in enumerate(steps):
        fitted = replace(hardware, speed=fit_speed(steps[:index] + steps[index + 1 :], hardware, prior=0.0))
        errors.append(abs(step_seconds(step.shape, step.batch_size, fitted, step.precision) / step.seconds - 1))
    print({name: float(f"{value:.3g}") for name, value in weights.items()})
    print(f"left out of the fit: median error {statistics.median(errors):.1%}, largest {max(errors):.1%}")
    print(load())
