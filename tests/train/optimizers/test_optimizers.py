import pytest
from torch import nn

from groundup.errors import UserError
from groundup.recipe import TrainRecipe
from groundup.train.optimizers import build_optimizer, set_learning_rate


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"train\.optimizer='adam' is unknown; did you mean 'adamw'\?"):
        build_optimizer(nn.Linear(2, 2), TrainRecipe(lr=1e-3, optimizer="adam"))


def test_each_group_scales_the_learning_rate() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), TrainRecipe(lr=1e-3))
    optimizer.param_groups[1]["lr_scale"] = 0.5
    set_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
