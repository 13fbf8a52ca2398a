"""Optimizers in one place with one interface: name -> function (model, settings) -> torch optimizer.

To add one, write a module beside `adamw.py` and add its line to `OPTIMIZERS`.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import nn
from torch.optim import Optimizer

from groundup.errors import UserError, nearest
from groundup.recipe import TrainRecipe
from groundup.train.optimizers.adafactor import adafactor
from groundup.train.optimizers.adamw import adamw
from groundup.train.optimizers.lion import lion
from groundup.train.optimizers.muon import muon
from groundup.train.optimizers.sgd import sgd

OptimizerMaker: TypeAlias = Callable[[nn.Module, TrainRecipe], Optimizer]

OPTIMIZERS: dict[str, OptimizerMaker] = {
    "adamw": adamw,
    "muon": muon,
    "lion": lion,
    "adafactor": adafactor,
    "sgd": sgd,
}


def find_optimizer(name: str) -> OptimizerMaker:
    """The function that makes the optimizer called `name`; UserError with the nearest known name otherwise."""
    if name not in OPTIMIZERS:
        raise UserError(f"train.optimizer='{name}' is unknown{nearest(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]


def build_optimizer(model: nn.Module, settings: TrainRecipe) -> Optimizer:
    """The optimizer that the recipe names. Every parameter group has an `lr_scale` which multiplies `train.lr`."""
    optimizer = find_optimizer(settings.optimizer)(model, settings)
    for group in optimizer.param_groups:
        group.setdefault("lr_scale", 1.0)
    return optimizer


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every group, each by its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
