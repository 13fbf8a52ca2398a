"""A trial of a tiny model, for the tests of `groundup bench`."""

from typing import Any

from groundup.pipeline.bench_process import Trial
from groundup.recipe import TrainRecipe
from groundup.shape import Shape

SHAPE = Shape(
    family="qwen3",
    num_layers=2,
    width=32,
    num_heads=2,
    num_kv_heads=1,
    head_width=16,
    feedforward_width=48,
    vocabulary_size=64,
    context=16,
)


def tiny_trial(*, batch_size: int = 8, precision: Any = "bf16", shape: Shape = SHAPE, **settings: Any) -> Trial:
    """Eager, on one thread, if nothing else is given."""
    return Trial(
        shape=shape,
        settings=TrainRecipe(**{"lr": 1e-3, "compile": "off", "micro_batch": batch_size} | settings),
        batch_size=batch_size,
        precision=precision,
        device="cpu",
        threads=1,
        seed=3,
    )
