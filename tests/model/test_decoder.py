import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.model import dot_product

from ..shapes import DECODERS, experts
from .conftest import MakeModel, MakeShape

LENGTH = 24


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=15, deadline=None)
@given(position=st.integers(1, LENGTH - 1), change=st.integers(1, 60))
def test_later_tokens_do_not_leak_into_earlier_logits(
    name: str, make_shape: MakeShape, make_random: MakeModel, position: int, change: int
) -> None:
    model = make_random(make_shape(name))
    ids = torch.randint(0, 61, (1, LENGTH), generator=torch.Generator().manual_seed(position))
    changed = ids.clone()
    changed[0, position] = (ids[0, position] + change) % 61
    with torch.no_grad():
        before, after = model(ids), model(changed)
    if experts(name):  # how many tokens share an expert decides in which order its products are added up
        torch.testing.assert_close(before[:, :position], after[:, :position], rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.allclose(before[:, position:], after[:, position:], atol=1e-3)


def test_no_gradient_flows_to_later_tokens(family: str, make_shape: MakeShape, make_random: MakeModel) -> None:
    """The same through autograd, as in training, with the attention of bfloat16 autocast."""
    model = make_random(make_shape(family, tied=False))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.arange(LENGTH)[None])[:, :10].sum().backward()
    tables = [model.embedding] if model.positions is None else [model.embedding, model.positions]
    for table in tables:
        assert table.weight.grad[:10].any(dim=-1).all()
        assert not table.weight.grad[10:LENGTH].any()


def test_earlier_tokens_matter(
    family: str, make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor
) -> None:
    """The order too, not only which tokens came before."""
    model = make_random(make_shape(family))
    swapped = ids.clone()
    swapped[:, [2, 3]] = ids[:, [3, 2]]
    with torch.no_grad():
        assert not torch.allclose(model(ids)[:, -1], model(swapped)[:, -1], atol=1e-4)


def test_rows_of_a_batch_are_independent(
    family: str, make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor
) -> None:
    model = make_random(make_shape(family))
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[1:2], model(ids[1:2]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_products_with_the_unembedding(
    family: str, make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor, tied: bool
) -> None:
    model = make_random(make_shape(family, tied=tied))
    names = [name for name, _ in model.named_parameters() if "embedding" in name]
    assert names == (["embedding.weight"] if tied else ["embedding.weight", "unembedding.weight"])
    with torch.no_grad():
        expected = model.features(ids) @ model.get_parameter(names[-1]).T
        torch.testing.assert_close(model(ids), expected, rtol=1e-5, atol=1e-5)


def test_every_parameter_gets_a_gradient(
    family: str, make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor
) -> None:
    model = make_random(make_shape(family, tied=False))
    F.cross_entropy(model(ids).flatten(0, 1), ids.roll(-1, 1).flatten()).backward()
    idle = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert not idle


def test_bfloat16_training_is_as_near_float32_as_with_the_fused_kernel(
    family: str,
    make_shape: MakeShape,
    make_random: MakeModel,
    ids: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logits and gradients of a training step: what rounding costs is the formula's doing, not the path's."""

    def step(precision: torch.dtype | None) -> tuple[torch.Tensor, torch.Tensor]:
        # With all experts for each token: what rounding does to a choice is not small.
        model = make_random(make_shape(family, **({"experts_per_token": 4} if experts(family) else {})))
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            logits = model(ids)
        F.cross_entropy(logits.float().flatten(0, 1), ids.roll(-1, 1).flatten()).backward()
        return logits.detach().float(), torch.cat([weight.grad.flatten() for weight in model.parameters()])

    exact, explicit = step(None), step(torch.bfloat16)
    monkeypatch.setattr(dot_product, "_EXPLICIT_UP_TO", 0)
    fused = step(torch.bfloat16)
    for reference, mine, other in zip(exact, explicit, fused, strict=True):
        assert not torch.equal(mine, other)  # these are two paths
        assert 0 < (mine - reference).norm() < 1.25 * (other - reference).norm() < 0.1 * reference.norm()
