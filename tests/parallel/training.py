"""Twenty steps of a small model, on one device and on many, for the tests that compare them."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from groundup.model.registry import build
from groundup.objective import Objective, Setting, causal
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.shape import Shape
from groundup.train.step import TrainStep, lay_out

STEPS, BATCH, CONTEXT, VOCABULARY = 20, 8, 32, 64
LR, SEED, END_OF_TEXT = 3e-3, 1, 0


class Training(NamedTuple):
    """Of every step the loss and the gradient's norm; in the end the loss of other windows, and the weights."""

    losses: npt.NDArray[np.float64]
    norms: npt.NDArray[np.float64]
    held_out: float
    weights: dict[str, Tensor]


class Case(NamedTuple):
    """A layout, and what else is asked for."""

    layout: Layout
    family: str = "qwen3"
    tied: bool = True
    documents: bool = False
    train: dict[str, Any] = {}  # noqa: RUF012
    parallel: dict[str, Any] = {}  # noqa: RUF012
    shape: dict[str, Any] = {}  # noqa: RUF012


def small_shape(case: Case) -> Shape:
    """Four layers, four heads; grouped queries where the family has them, two of four experts a token likewise."""
    experts = {"num_experts": 4, "experts_per_token": 2} if case.family == "qwen3_moe" else {}
    shape = Shape(
        family=case.family,
        num_layers=4,
        width=32,
        num_heads=4,
        num_kv_heads=4 if case.family == "gpt2" else 2,
        head_width=8,
        feedforward_width=64,
        vocabulary_size=VOCABULARY,
        context=CONTEXT,
        tied=case.tied,
        **experts,
    )
    return shape.model_copy(update=case.shape)


def windows() -> npt.NDArray[np.int64]:
    """(steps + 1, B, T + 1): sequences that mostly follow a rule, so that there is something to learn."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, (STEPS + 1, BATCH, CONTEXT + 1))
    for place in range(1, CONTEXT + 1):
        follows = rng.random((STEPS + 1, BATCH)) < 0.8
        tokens[:, :, place] = np.where(
            follows, (tokens[:, :, place - 1] * 5 + 3) % VOCABULARY, tokens[:, :, place]
        )
    return tokens


def settings(case: Case, micro_batch: int) -> TrainRecipe:
    """AdamW, and a clip that is in force at first."""
    given = {"optimizer": "adamw", "clip": 0.5, "precision": "fp32", "compile": "off"}
    return TrainRecipe.model_validate(given | case.train | {"batch_size": BATCH, "micro_batch": micro_batch})


def alone(case: Case) -> Training:
    """On one device."""
    torch.set_num_threads(1)
    model = build(small_shape(case), SEED)
    objective, train = _objective(case), settings(case, case.layout.micro_batch * case.layout.data)
    step = TrainStep(model, objective, train, precision=_precision(train), device="cpu")
    losses, norms = _take(step)
    model.eval()
    with torch.no_grad():
        held_out = float(objective.loss(model, objective.collate(windows()[-1][:5])).mean)
    return Training(losses, norms, held_out, {name: weight.detach() for name, weight in model.named_parameters()})


def together(_rank: int, cases: dict[str, Case]) -> dict[str, Training]:
    """On this process and the others of its group."""
    return {name: _on_this(case) for name, case in cases.items()}


def _on_this(case: Case) -> Training:
    layout = case.layout
    train = settings(case, layout.micro_batch)
    parallel = ParallelRecipe.model_validate({"zero": layout.zero} | case.parallel)
    devices = lay_out(
        small_shape(case),
        _objective(case),
        train,
        parallel,
        Grid(layout, "cpu"),
        precision=_precision(train),
        device="cpu",
        seed=SEED,
    )
    step = TrainStep(
        devices.model, _objective(case), train, precision=_precision(train), device="cpu", devices=devices
    )
    losses, norms = _take(step)
    held_out, _ = devices.evaluate(windows()[-1][:5], 2)
    return Training(losses, norms, held_out, whole_weights(devices))


def whole_weights(devices: ManyDevices) -> dict[str, Tensor]:
    """By name, those that this process has a part of."""
    named = devices.model.named_parameters()
    return {
        name: (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach() for name, weight in named
    }


def differences(case: Case, parts: list[Training]) -> tuple[float, float, float, float]:
    """The greatest differences from one device: of losses, norms and held-out loss relative, of weights absolute.

    A bias of keys moves all scores of a query alike: its gradient is rounding, of which AdamW makes whole steps.
    """
    one = alone(case)
    weights = {name: weight for part in parts for name, weight in part.weights.items()}
    assert weights.keys() == one.weights.keys()
    return (
        max(float(np.abs(part.losses / one.losses - 1).max()) for part in parts),
        max(float(np.abs(part.norms / one.norms - 1).max()) for part in parts),
        max(abs(part.held_out / one.held_out - 1) for part in parts),
        max(
            float((weights[name] - weight).abs().max())
            for name, weight in one.weights.items()
            if not name.endswith("key.bias")
        ),
    )


def _take(step: TrainStep) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    results = [step(batch, LR) for batch in windows()[:STEPS]]
    assert all(result.num_targets == BATCH * CONTEXT for result in results)
    return np.array([result.loss for result in results]), np.array([result.grad_norm for result in results])


def _objective(case: Case) -> Objective:
    border = END_OF_TEXT if case.documents else None
    return causal(Setting(border=border, label_smoothing=case.train.get("label_smoothing", 0.0)))


def _precision(train: TrainRecipe) -> Any:
    return train.precision
