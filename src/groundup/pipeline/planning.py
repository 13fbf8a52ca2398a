"""`groundup plan`: which machine, how much text, and then the arithmetic; never torch."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from pydantic import ByteSize, TypeAdapter, ValidationError

from groundup.errors import UserError
from groundup.pipeline.calibration import load_calibration, text_names
from groundup.plan.answer import bytes_per_token_of
from groundup.plan.budget import parse_budget
from groundup.plan.calibration import Corrections
from groundup.plan.candidates import ladder
from groundup.plan.cluster.answer import VOCABULARY, ClusterQuestion, cluster_answer
from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.figures import Answer
from groundup.plan.hardware import Hardware
from groundup.plan.loss import SMALL_RUNS, ExpectedLoss
from groundup.plan.machine_answer import Question, machine_answer
from groundup.plan.models import parse_shape, parse_size
from groundup.plan.parameters import total
from groundup.plan.scaling.expectation import OwnRuns
from groundup.plan.scaling.fitted import find_law
from groundup.processor import bf16_instructions, processor_name
from groundup.recipe import Recipe
from groundup.shape import Shape

THIS_MACHINE = "this"
# Of a core of which nothing was measured: what an older laptop sustains. Plans say that they rest on this.
_FP32_FLOPS_A_CORE, _BF16_FLOPS_A_CORE, _BANDWIDTH = 40e9, 150e9, 20e9
_LEAST_TEXT_BYTES = 10_000
# With which a size in parameters is turned into a shape where the recipe says nothing of them.
_VOCABULARY_OF_SIZES, _CONTEXT_OF_SIZES = 4096, 256
# Compressed text takes about this share of its bytes.
_COMPRESSED = {".xz": 0.33, ".gz": 0.38, ".zst": 0.35, ".bz2": 0.3, ".parquet": 0.5}


@dataclass(frozen=True)
class Asked:
    """The command line's words beside the recipe."""

    hardware: str = THIS_MACHINE
    data: str | None = None
    params: str | None = None
    shape: str | None = None
    law: str | None = None
    usd_per_hour: float | None = None
    region: str = "world"


def plan_answer(recipe: Recipe, asked: Asked) -> Answer:
    """What to train with the recipe's budget, and what to expect of it; UserError for what a user can mend."""
    budget = parse_budget(recipe.budget)
    of_size = asked.params is not None and asked.shape is None and asked.hardware == THIS_MACHINE
    recipe, shape = (_rung(recipe, str(asked.params)), None) if of_size else (recipe, _shape(recipe, asked))
    vocabulary_size = shape.vocabulary_size if shape else recipe.tokenizer.vocabulary_size or VOCABULARY
    text_bytes = _text_bytes(asked.data, vocabulary_size) if asked.data else None
    if asked.hardware != THIS_MACHINE:
        cluster = parse_hardware(asked.hardware)
        return cluster_answer(
            ClusterQuestion(
                recipe, budget, cluster, text_bytes, shape, asked.law, asked.usd_per_hour, asked.region
            )
        )
    known = load_calibration(recipe.train)
    texts = text_names([asked.data] if asked.data and not recipe.data.sources else recipe.data.sources)
    corrections = known.corrections(texts) if known else Corrections()
    if asked.law:
        law: ExpectedLoss = OwnRuns(find_law(asked.law))
    else:
        law = SMALL_RUNS.scaled(corrections.loss)
    question = Question(
        _fixed(recipe, shape) if shape else recipe,
        budget,
        replace(known.calibrated(), memory_bytes=_memory(known.hardware)) if known else _assumed(),
        text_bytes,
        law=law,
        peak_factor=corrections.peak,
        usd_per_hour=asked.usd_per_hour,
        region=asked.region,
    )
    answer = machine_answer(question)
    return replace(answer, notes=[*answer.notes, *_ground(known is not None, known is not None and known.probed)])


def _ground(measured: bool, probed: bool) -> list[str]:
    """What the times rest on, where that is little."""
    if probed:
        return []
    if measured:
        return ["times rest on an earlier build here; `groundup plan calibrate` makes them better in a minute"]
    return [
        "nothing was measured on this machine: times may be off by a factor of 3, and a GPU is not counted; run "
        "`groundup plan calibrate`"
    ]


def _memory(hardware: Hardware) -> int:
    """What is free now, where it is the system's memory."""
    return int(psutil.virtual_memory().available) if hardware.device == "cpu" else hardware.memory_bytes


def _assumed() -> Hardware:
    """This machine as far as it can be told without measuring."""
    cores = psutil.cpu_count(logical=False) or 1
    instructions = bf16_instructions()
    bf16 = _BF16_FLOPS_A_CORE if instructions else _FP32_FLOPS_A_CORE
    return Hardware(
        name=processor_name(),
        device="cpu",
        threads=cores,
        memory_bytes=int(psutil.virtual_memory().available),
        flops_fp32=cores * _FP32_FLOPS_A_CORE,
        flops_bf16=cores * bf16,
        memory_bandwidth=_BANDWIDTH,
        has_bf16=None if instructions is None else bool(instructions),
    )


def _shape(recipe: Recipe, asked: Asked) -> Shape | None:
    """The shape that the command line fixes; None where it is left to the planner."""
    if not (asked.params or asked.shape):
        return None
    return parse_shape(asked.params, asked.shape, recipe.model.context, recipe.tokenizer.vocabulary_size)


def _rung(recipe: Recipe, params: str) -> Recipe:
    """The recipe with depth, width and vocabulary of the rung of the ladder that is nearest to a size."""
    wanted = parse_size(params)
    vocabulary_size = recipe.tokenizer.vocabulary_size or _VOCABULARY_OF_SIZES
    rungs = ladder(recipe.model, vocabulary_size, recipe.model.context or _CONTEXT_OF_SIZES)
    nearest = min(rungs, key=lambda shape: abs(math.log(total(shape) / wanted)))
    fixed = recipe.model_copy(deep=True)
    fixed.model.num_layers, fixed.model.width = nearest.num_layers, nearest.width
    fixed.tokenizer.vocabulary_size = vocabulary_size
    return fixed


def _fixed(recipe: Recipe, shape: Shape) -> Recipe:
    """The recipe with every field of the model as in `shape`."""
    fixed = recipe.model_copy(deep=True)
    for name in type(fixed.model).model_fields:
        setattr(fixed.model, name, getattr(shape, name))
    fixed.tokenizer.vocabulary_size = shape.vocabulary_size
    return fixed


def _text_bytes(data: str, vocabulary_size: int) -> float:
    """Bytes of text: of a file or folder, of a size such as 5GB, or of an amount of tokens such as 300Mtok."""
    path = Path(data)
    if path.exists():
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if size := sum(file.stat().st_size / _COMPRESSED.get(file.suffix, 1.0) for file in files):
            return size
        raise UserError(f"--data {data} is empty; give text to train on")
    try:
        size = float(TypeAdapter(ByteSize).validate_python(data))
    except ValidationError:
        size = _bytes_of_tokens(data, vocabulary_size)
    if size < _LEAST_TEXT_BYTES:
        raise UserError(
            f"--data {data} is too little text to learn from; give {_LEAST_TEXT_BYTES:,} bytes or more"
        )
    return size


def _bytes_of_tokens(data: str, vocabulary_size: int) -> float:
    try:
        amount = parse_budget(data)
    except UserError:
        amount = None
    if amount is None or amount.kind != "tokens":
        raise UserError(
            f"--data '{data}' is neither a file nor a size; write a path that exists, 5GB, 300MB or 20Btok"
        )
    return amount.amount * bytes_per_token_of(vocabulary_size)
