from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from groundup.errors import UserError
from groundup.recipe import TrainRecipe
from groundup.train import checkpoints
from groundup.train.checkpoints import TrainState
from groundup.train.optimizers import OPTIMIZERS, build_optimizer, set_learning_rate


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"train\.optimizer='adam' is unknown; did you mean 'adamw'\?"):
        build_optimizer(nn.Linear(2, 2), TrainRecipe(lr=1e-3, optimizer="adam"))


def test_each_group_scales_the_learning_rate() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), TrainRecipe(lr=1e-3))
    optimizer.param_groups[1]["lr_scale"] = 0.5
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_goes_on_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    """Ten steps at once, and five, a checkpoint and five more, give the same weights and a smaller loss."""
    settings = TrainRecipe(optimizer=name, lr=1.0, weight_decay=0.1)
    inputs, targets = torch.randn(2, 32, 6, generator=torch.Generator().manual_seed(1))

    def made() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 6))
        return model, build_optimizer(model, settings)

    def train(model: nn.Module, optimizer: Optimizer, steps: range) -> float:
        for _ in steps:
            loss = F.mse_loss(model(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            set_learning_rate(optimizer, 0.01)
            optimizer.step()
        return float(loss.detach())

    whole, optimizer = made()
    first, last = train(whole, optimizer, range(1)), train(whole, optimizer, range(1, 10))
    assert last < first
    model, optimizer = made()
    train(model, optimizer, range(5))
    saved = checkpoints.write(tmp_path, checkpoints.snapshot(model, optimizer, TrainState(step=5)), keep=1)
    model, optimizer = made()
    checkpoints.restore(saved, model, optimizer)
    train(model, optimizer, range(5, 10))
    for mine, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
