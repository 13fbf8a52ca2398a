from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.model.actor_critic import ActorCritic

from .conftest import MakeModel, MakeShape


@pytest.fixture(params=[True, False], ids=["shared", "critic"])
def model(request: pytest.FixtureRequest, make_shape: MakeShape, make_random: MakeModel) -> ActorCritic:
    policy = make_random(make_shape("qwen3", tied=False))
    critic = None if request.param else make_random(make_shape("gpt2", width=16, head_width=4, tied=False))
    return ActorCritic(policy, critic)


def _with_values(model: ActorCritic) -> ActorCritic:
    with torch.no_grad():
        model.value_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def test_values_start_at_zero_and_the_policy_as_it_was(model: ActorCritic, ids: Tensor) -> None:
    features, values = model(ids)
    assert values.shape == ids.shape and values.dtype == torch.float32 and not values.any()
    logits = features @ model.unembedding_weight.T
    torch.testing.assert_close(logits, model.policy(ids))


def test_a_value_knows_the_token_before_it_and_none_behind(model: ActorCritic, ids: Tensor) -> None:
    """Position t has read ids 0..t, and judges what comes with token t + 1."""
    _with_values(model)
    changed = ids.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 61
    before, after = model(ids)[1], model(changed)[1]
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert ((before[:, 10] - after[:, 10]).abs() > 1e-4).all()


def test_the_trunk_is_read_once(model: ActorCritic, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    embed = model.policy.embed

    def counted(*given: Any) -> Tensor:
        passes.append(1)
        return embed(*given)

    monkeypatch.setattr(model.policy, "embed", counted)
    model(ids)
    assert len(passes) == 1


def test_the_value_loss_reaches_the_policy_only_through_a_shared_trunk(model: ActorCritic, ids: Tensor) -> None:
    _with_values(model)(ids)[1].square().mean().backward()
    reaches = any(weight.grad is not None and weight.grad.any() for weight in model.policy.parameters())
    assert reaches == (model.critic is None)
    assert model.value_head.weight.grad is not None and model.value_head.weight.grad.any()


def test_the_critic_needs_no_words(model: ActorCritic) -> None:
    assert model.critic is None or model.critic.unembedding is None
    assert model.policy.unembedding is not None
    assert len(model.blocks) == (2 if model.critic is None else 4)
