"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused."""

from torch import nn
from torch.optim import AdamW

from groundup.recipe import TrainRecipe


def adamw(model: nn.Module, settings: TrainRecipe) -> AdamW:
    """Decay acts on matrices only: shrinking norms and biases towards zero has no meaning."""
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.dim() >= 2]
    vectors = [parameter for parameter in parameters if parameter.dim() < 2]
    return AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )
