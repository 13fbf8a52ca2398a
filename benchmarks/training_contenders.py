"""Who takes part in `training.py`: groundup in several settings, and the peers of `training_peers.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import training_peers as peers
from training_worker import Batches, Gate, Job

Loop = Callable[[Job, Batches, Gate], None]


@dataclass(frozen=True)
class Contender:
    """A training loop with its settings; `source` is what it needs beside Python packages."""

    train: Loop
    source: str | None = None
    package: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    same_model: bool = False
    """nanoGPT's model with nanoGPT's weights, batches and AdamW: its losses must stay with nanoGPT's."""


def groundup(job: Job, batches: Batches, gate: Gate) -> None:
    """groundup's training step as `groundup build` takes it, with the weights of nanoGPT for GPT-2."""
    from groundup.interop.huggingface import from_tensors
    from groundup.model.registry import build
    from groundup.objective import CAUSAL
    from groundup.train.allocator import keep_freed_memory
    from groundup.train.step import TrainStep

    keep_freed_memory()
    gate.imported()
    shape = groundup_shape(job, job.options["family"])
    settings = _planned(job) if job.options.get("planned") else _recipe(job).train
    settings = settings.model_copy(
        update={name: getattr(job, name) for name in ("lr", "beta1", "beta2", "weight_decay", "clip")}
    )
    model = build(shape, seed=job.seed)
    if "nanogpt" in job.sources and shape.family == "gpt2":
        model.load_state_dict(from_tensors(shape, peers.gpt2_tensors(job)))
    objective = CAUSAL
    take_step = TrainStep(model, objective, settings, precision=settings.precision, device="cpu")
    chosen = ("precision", "compile", "recompute", "micro_batch", "optimizer")
    embeddings = [part for part in (model.embedding, model.positions, model.unembedding) if part is not None]
    gate.ready(*peers.count(model, *embeddings), settings={name: getattr(settings, name) for name in chosen})
    step = 0
    while True:
        result = take_step(batches.windows(step), job.rate(step))
        gate.passed(result.loss)
        step += 1


def groundup_shape(job: Job, family: str) -> Any:
    """The job's shape in one of groundup's families."""
    from groundup.shape import Shape

    gpt2 = family == "gpt2"
    return Shape(
        family=family,
        num_layers=job.layers,
        width=job.width,
        num_heads=job.heads,
        num_kv_heads=job.heads,
        head_width=job.width // job.heads,
        feedforward_width=4 * job.width if gpt2 else job.llama_feedforward,
        vocabulary_size=job.vocabulary,
        context=job.context,
        norm_epsilon=1e-5 if gpt2 else 1e-6,
    )


def _recipe(job: Job) -> Any:
    from groundup.recipe import ModelRecipe, Recipe, TrainRecipe

    shape = groundup_shape(job, job.options["family"]).model_dump()
    fixed = {name: value for name, value in shape.items() if name in ModelRecipe.model_fields}
    given = {name: job.options[name] for name in ("precision", "compile", "recompute") if name in job.options}
    # The optimizer of the peers; nanochat alone brings its own.
    train = TrainRecipe(batch_size=job.batch, threads=job.threads, optimizer="adamw", **given)
    return Recipe(model=ModelRecipe(**fixed), train=train)


def _planned(job: Job) -> Any:
    """The settings that `groundup build --budget 10m` fills in for this shape and batch on this machine."""
    from groundup.pipeline.build import _plan
    from groundup.plan.budget import parse_budget
    from groundup.plan.choose import Corpus
    from groundup.train.machine import measure

    recipe = _recipe(job)
    corpus = Corpus(train_bytes=7.7e6, bytes_per_token=4.0 if job.vocabulary > 256 else 1.0)
    # Bytes and a special token are the least that the recipe takes.
    tokenizer = SimpleNamespace(vocabulary_size=max(257, job.vocabulary))
    plan = _plan(recipe, parse_budget("10m"), measure(recipe.train), corpus, tokenizer)
    return plan.resolve(recipe).train


_UNCOMPILED = {"TORCHDYNAMO_DISABLE": "1"}


def _ours(family: str, **options: Any) -> Contender:
    return Contender(groundup, options={"family": family, "compile": "off"} | options, same_model=family == "gpt2")


def _nanogpt(**options: Any) -> Contender:
    return Contender(peers.nanogpt, "nanogpt", options=options, same_model=not options)


def _trainer(family: str, **options: Any) -> Contender:
    return Contender(peers.huggingface, None, "accelerate", {"family": family} | options)


def _litgpt(precision: str, *, compiled: bool) -> Contender:
    return Contender(peers.litgpt, "litgpt", "lightning", {"precision": precision, "compile": compiled})


def _nanochat(dtype: str, *, compiled: bool) -> Contender:
    environment = {"NANOCHAT_DTYPE": dtype} | ({} if compiled else _UNCOMPILED)
    return Contender(peers.nanochat, "nanochat", None, {"compile": compiled}, environment)


REFERENCE = "nanoGPT"
CONTENDERS: dict[str, Contender] = {
    REFERENCE: _nanogpt(),
    "nanoGPT, compiled": _nanogpt(compile=True),
    "groundup gpt2, fp32": _ours("gpt2", precision="fp32"),
    "groundup gpt2, bf16": _ours("gpt2", precision="bf16"),
    "groundup gpt2, bf16-weights": _ours("gpt2", precision="bf16-weights"),
    "groundup gpt2, bf16, compiled": _ours("gpt2", precision="bf16", compile="on"),
    "groundup gpt2, as build chooses": _ours("gpt2", planned=True, compile="auto"),
    "HF Trainer GPT-2, fp32": _trainer("gpt2", bf16=False),
    "HF Trainer GPT-2, bf16": _trainer("gpt2", bf16=True),
    # Its threads would spin between turns, and take the processor from whose turn it is.
    "llm.c": Contender(peers.llmc, "llmc", environment={"OMP_WAIT_POLICY": "PASSIVE"}),
    "groundup llama, fp32": _ours("llama", precision="fp32"),
    "groundup llama, bf16": _ours("llama", precision="bf16"),
    "groundup llama, as build chooses": _ours("llama", planned=True, compile="auto"),
    "HF Trainer Llama, fp32": _trainer("llama", bf16=False),
    "HF Trainer Llama, bf16": _trainer("llama", bf16=True),
    "litgpt, fp32, not compiled": _litgpt("32-true", compiled=False),
    "litgpt, bf16, not compiled": _litgpt("bf16-mixed", compiled=False),
    "litgpt, bf16, compiled": _litgpt("bf16-mixed", compiled=True),
    "minimind": Contender(peers.minimind, "minimind", "transformers", {"compile": False}),
    "minimind, compiled": Contender(peers.minimind, "minimind", "transformers", {"compile": True}),
    "nanochat, not compiled": _nanochat("float32", compiled=False),
    "nanochat, compiled": _nanochat("float32", compiled=True),
    "nanochat, bf16, compiled": _nanochat("bfloat16", compiled=True),
}
"""The comparison of `training.py speed`. What a framework does by default on a CPU: nanoGPT, litgpt and nanochat
compile, litgpt in bf16; nanoGPT's README turns compilation off for CPUs."""

_PLAIN = {
    "plain PyTorch, fp32": _nanogpt(),
    "plain PyTorch, bf16": _nanogpt(autocast=True),
}
MEMORY: dict[str, Contender] = _PLAIN | {
    f"groundup gpt2, {precision}, recompute {what}": _ours("gpt2", precision=precision, recompute=what)
    for precision in ("fp32", "bf16", "bf16-weights")
    for what in ("none", "selective", "full")
}
"""The comparison of `training.py memory`: nanoGPT's model, logits whole and nothing computed again, and ours."""

GROWTH = "groundup, as build chooses"
PEAK: dict[str, Contender] = {
    f"bf16 product {' x '.join(map(str, sizes))}": Contender(peers.products, options={"sizes": sizes})
    for sizes in ((1024, 1024, 1024), (2048, 2048, 2048), (8192, 384, 1536))
}
ALL: dict[str, Contender] = CONTENDERS | MEMORY | PEAK | {GROWTH: _ours("qwen3", planned=True, compile="auto")}
