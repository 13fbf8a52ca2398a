import pytest
import torch
from torch import nn

from groundup.model.experts import StackedLinear
from groundup.model.registry import build
from groundup.model.vocabulary import train_rows
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.optimizers.groups import hidden_matrices
from groundup.train.optimizers.muon import orthogonalise

from ...shapes import DECODERS, experts

SETTINGS = TrainRecipe(optimizer="muon", lr=1.0, weight_decay=0.3, beta1=0.8, beta2=0.95)


def _model(family: str = "llama", tied: bool = False) -> nn.Module:
    torch.manual_seed(0)
    shape = Shape(
        family=family,
        num_layers=2,
        width=16,
        num_heads=2,
        num_kv_heads=2,
        head_width=8,
        feedforward_width=24,
        vocabulary_size=30,
        context=8,
        tied=tied,
        **experts(family),
    )
    return build(shape)


@pytest.mark.parametrize("rows,columns", [(8, 8), (8, 40), (32, 33)])
def test_singular_values_become_about_one(rows: int, columns: int) -> None:
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(orthogonalise(matrices).float(), full_matrices=False)
    assert values.min() > 0.5 and values.max() < 1.3
    # The directions stay: the product with the polar factor of the original is close to symmetric and positive.
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    overlap = (left @ right * orthogonalise(matrices)).sum((1, 2)) / min(rows, columns)
    assert overlap.min() > 0.75


def test_matrices_step_as_torchs_muon_and_the_rest_as_adamw() -> None:
    ours, reference = _model(), _model()
    hidden = {id(parameter) for parameter in hidden_matrices(reference)}
    rest = [parameter for parameter in reference.parameters() if id(parameter) not in hidden]
    muon = torch.optim.Muon(
        hidden_matrices(reference), lr=1.0, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(
        [
            {"params": [parameter for parameter in rest if parameter.dim() >= 2], "weight_decay": 0.3},
            {"params": [parameter for parameter in rest if parameter.dim() < 2], "weight_decay": 0.0},
        ],
        betas=(0.8, 0.95),
    )
    optimizer = build_optimizer(ours, SETTINGS)
    random = torch.Generator().manual_seed(1)
    for lr in (0.02, 0.01, 0.03):
        for mine, theirs in zip(ours.parameters(), reference.parameters(), strict=True):
            mine.grad = torch.randn(mine.shape, generator=random)
            theirs.grad = mine.grad.clone()
        set_learning_rate(optimizer, lr)
        for peer in (muon, adamw):
            for group in peer.param_groups:
                group["lr"] = lr
            peer.step()
        optimizer.step()
    for (name, mine), theirs in zip(ours.named_parameters(), reference.parameters(), strict=True):
        exact = id(theirs) not in hidden
        # Newton-Schulz runs in bfloat16, and a batched product rounds otherwise than a single one.
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6 if exact else 2e-3, msg=name)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_embeddings_and_the_way_back_to_words_are_not_orthogonalised(family: str, tied: bool, rows: bool) -> None:
    """Nor are the rows of some tokens that are trained beside adapters."""
    model = _model(family, tied)
    if rows:
        train_rows(model, [3, 5])
        assert any(name.endswith(".rows") for name, _ in model.named_parameters())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden = {names[id(parameter)] for parameter in hidden_matrices(model)}
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
    assert matrices - hidden == {name for name in matrices if not name.startswith("blocks.")}


def test_each_expert_of_a_stack_steps_as_a_matrix_of_its_own() -> None:
    """Stacks beside the matrices that they are made of: the same steps, and those of the other matrices too."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 12, 8, generator=random)
    stack, apart = StackedLinear(3, 8, 12), nn.ModuleList(nn.Linear(8, 12, bias=False) for _ in range(3))
    with torch.no_grad():
        stack.weight.copy_(drawn)
        for linear, matrix in zip(apart, drawn, strict=True):
            linear.weight.copy_(matrix)
    models = [nn.Sequential(stack, nn.LayerNorm(12)), nn.Sequential(*apart, nn.LayerNorm(12))]
    optimizers = [build_optimizer(model, SETTINGS) for model in models]
    for _ in range(3):
        stack.weight.grad = torch.randn(3, 12, 8, generator=random)
        for linear, gradient in zip(apart, stack.weight.grad, strict=True):
            linear.weight.grad = gradient.clone()
        for optimizer in optimizers:
            set_learning_rate(optimizer, 0.02)
            optimizer.step()
    assert torch.equal(stack.weight, torch.stack([linear.weight for linear in apart]))
    assert optimizers[0].param_groups[0]["orthogonal"]
