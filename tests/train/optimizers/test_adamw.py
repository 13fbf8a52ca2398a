import math

import numpy as np
import torch
from torch import nn

from groundup.model.registry import build
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.optimizers import build_optimizer, set_learning_rate

from ...shapes import DECODERS, experts

SETTINGS = TrainRecipe(optimizer="adamw", lr=1.0, weight_decay=0.3, beta1=0.8, beta2=0.95)
EPSILON = 1e-8


def test_steps_are_those_of_the_paper() -> None:
    """Algorithm 2 of arXiv:1711.05101 in float64, a learning rate of its own in each of six steps."""
    random = np.random.default_rng(0)
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, SETTINGS)
    values = {name: weight.detach().double().numpy().copy() for name, weight in model.named_parameters()}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for step, lr in enumerate((0.1, 0.03, 0.0, 0.2, 0.1, 0.01), start=1):
        for name, weight in model.named_parameters():
            gradient = random.normal(size=weight.shape)
            weight.grad = torch.from_numpy(gradient).float()
            decay = 0.3 if name == "weight" else 0.0
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.95 * second[name] + 0.05 * gradient**2
            mean, variance = first[name] / (1 - 0.8**step), second[name] / (1 - 0.95**step)
            values[name] -= lr * (mean / (np.sqrt(variance) + EPSILON) + decay * values[name])
        set_learning_rate(optimizer, lr)
        optimizer.step()
        for name, weight in model.named_parameters():
            np.testing.assert_allclose(weight.detach().numpy(), values[name], rtol=1e-5, atol=1e-6)


def test_decay_acts_on_matrices_alone() -> None:
    """With gradients of zero nothing else moves: matrices shrink by lr * decay, norms and biases stay."""
    for family in DECODERS:
        model = build(
            Shape(
                family=family,
                num_layers=1,
                width=16,
                num_heads=2,
                num_kv_heads=2,
                head_width=8,
                feedforward_width=24,
                vocabulary_size=30,
                context=8,
                tied=False,
                **experts(family),
            )
        )
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        optimizer = build_optimizer(model, SETTINGS)
        set_learning_rate(optimizer, 0.1)
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        for name, weight in model.named_parameters():
            kept = 1 - 0.1 * 0.3 if weight.dim() >= 2 else 1.0
            torch.testing.assert_close(weight.detach(), kept * before[name], msg=name)


def test_every_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Embedding(5, 3))
    grouped = [weight for group in build_optimizer(model, SETTINGS).param_groups for weight in group["params"]]
    assert len(grouped) == len({id(weight) for weight in grouped})
    assert {id(weight) for weight in grouped} == {id(weight) for weight in model.parameters()}


def test_the_first_step_has_the_size_of_the_learning_rate() -> None:
    """Bias correction: whatever the gradient's size, the first step is lr in its direction."""
    model = nn.Linear(4, 1, bias=False)
    optimizer = build_optimizer(model, TrainRecipe(optimizer="adamw", lr=1.0, weight_decay=0.0))
    before = model.weight.detach().clone()
    model.weight.grad = torch.tensor([[1e-3, -1.0, 50.0, -1e4]])
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    moved = (model.weight.detach() - before).flatten().tolist()
    assert all(
        math.isclose(step, -0.01 * sign, rel_tol=1e-3) for step, sign in zip(moved, (1, -1, 1, -1), strict=True)
    )
