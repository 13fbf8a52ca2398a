import pytest
import torch

from groundup.errors import UserError
from groundup.model.registry import assemble, build
from groundup.objective import OBJECTIVES
from groundup.shape import FAMILIES

from .conftest import MakeShape


def test_an_unknown_family_names_the_nearest(make_shape: MakeShape) -> None:
    shape = make_shape("llama").model_copy(update={"family": "lama"})
    with pytest.raises(UserError, match=r"unknown model family 'lama'; did you mean 'llama'\?"):
        build(shape)


def test_assembling_takes_no_memory(family: str, make_shape: MakeShape) -> None:
    """A model of 100 billion parameters, on the meta device."""
    shape = make_shape(family, num_layers=4, width=65_536, num_heads=512, num_kv_heads=512, head_width=128)
    model = assemble(shape)
    assert sum(parameter.numel() for parameter in model.parameters()) > 5e10
    assert all(parameter.is_meta for parameter in model.parameters())


def test_parameters_are_float32_and_trainable(family: str, make_shape: MakeShape) -> None:
    model = build(make_shape(family))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_every_family_names_an_objective_that_exists() -> None:
    built = [traits for traits in FAMILIES.values() if traits.examples != "words"]
    assert {traits.objective for traits in built} <= set(OBJECTIVES)
