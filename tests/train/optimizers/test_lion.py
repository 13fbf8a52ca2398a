import numpy as np
import torch
from torch import nn

from groundup.recipe import TrainRecipe
from groundup.train.optimizers import build_optimizer, set_learning_rate


def test_steps_are_those_of_the_paper() -> None:
    """Algorithm 2 of arXiv:2302.06675 in float64; a fifth of AdamW's learning rate, five times its decay."""
    random = np.random.default_rng(0)
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(
        model, TrainRecipe(optimizer="lion", lr=1.0, weight_decay=0.3, beta1=0.8, beta2=0.95)
    )
    values = {name: weight.detach().double().numpy().copy() for name, weight in model.named_parameters()}
    momenta = {name: np.zeros_like(value) for name, value in values.items()}
    for lr in (0.1, 0.03, 0.0, 0.2):
        for name, weight in model.named_parameters():
            gradient = random.normal(size=weight.shape)
            weight.grad = torch.from_numpy(gradient).float()
            decay = 0.3 * 5 if name == "weight" else 0.0
            direction = np.sign(0.8 * momenta[name] + 0.2 * gradient)
            values[name] -= lr / 5 * (direction + decay * values[name])
            momenta[name] = 0.95 * momenta[name] + 0.05 * gradient
        set_learning_rate(optimizer, lr)
        optimizer.step()
        for name, weight in model.named_parameters():
            np.testing.assert_allclose(weight.detach().numpy(), values[name], rtol=1e-5, atol=1e-6)
