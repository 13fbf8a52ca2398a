from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.model.actor_critic import ActorCritic
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.objective import IGNORED, Batch
from groundup.objective.log_probs import token_log_probs
from groundup.objective.policy import POLICY_LOSSES, PolicyBatch, grpo, k3, ppo
from groundup.objective.statistics import Statistics
from groundup.recipe_stages import GrpoRecipe, PpoRecipe
from groundup.serve.batch import sample
from groundup.shape import Shape

from . import trl_losses
from .answers import answers
from .rows import tiny

ROWS = np.arange(6)[:, None]


def _plain_log_probs(model: Decoder, batch: PolicyBatch, temperature: float) -> Tensor:
    all_BTV = (model(batch.inputs_BT) / temperature).log_softmax(-1)
    return all_BTV.gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0] * (batch.targets != IGNORED)


def _close(found: Tensor, expected: Tensor, model: torch.nn.Module) -> None:
    """Loss and gradients of all parameters."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    mine, theirs = (
        torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
        for loss in (found, expected)
    )
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("high", [None, 0.3])
@pytest.mark.parametrize(("loss", "theirs"), [("grpo", "grpo"), ("dapo", "dapo"), ("dr-grpo", "dr_grpo")])
def test_losses_of_groups_gradients_and_figures_are_trls(loss: str, theirs: str, high: float | None) -> None:
    settings = GrpoRecipe(loss=loss, kl=0.2, clip_ratio=0.15, clip_ratio_high=high, temperature=0.8, tokens=13)
    batch, model, statistics = answers(6, settings), tiny().train(), Statistics()
    objective = grpo(settings, lambda _: batch, statistics)
    found = objective.loss(model, objective.collate(ROWS, 0)).mean
    assert batch.reference_log_probs_BT is not None
    expected, figures = trl_losses.grpo(
        _plain_log_probs(model, batch, 0.8), batch.old_log_probs_BT, batch.reference_log_probs_BT,
        batch.advantages_BT[:, 0], batch.counted,
        loss=theirs, beta=0.2, low=0.15, high=high or 0.15, most_tokens=13,
    )  # fmt: skip
    _close(found, expected, model)
    taken = statistics.take()
    assert 0 < taken["clip_fraction"] == pytest.approx(figures["clip_ratio/region_mean"], abs=1e-6)
    assert taken["kl_to_reference"] == pytest.approx(figures["kl"], abs=1e-9)


def test_beta_can_be_steered() -> None:
    settings = GrpoRecipe(kl=0.5)
    batch, model = answers(6, settings), tiny().train()
    betas, losses = iter([0.0, 1.0, 2.0]), []
    objective = grpo(settings, lambda _: batch, beta=lambda: next(betas))
    for _ in range(3):
        losses.append(objective.loss(model, objective.collate(ROWS, 0)).mean.item())
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1]) and losses[1] > losses[0]


def _ppo_by_hand(model: ActorCritic, batch: PolicyBatch, settings: PpoRecipe) -> Tensor:
    """Token by token, after Schulman et al. 2017 (equation 7) and its value loss as in baselines' PPO2."""
    log_probs_BT = _plain_log_probs(model.policy, batch, settings.temperature)
    trunk = model.critic or model.policy
    values_BT = trunk.features(batch.inputs_BT) @ model.value_head.weight[0] + model.value_head.bias
    assert batch.old_values_BT is not None and batch.returns_BT is not None
    of_policy, of_value = [], []
    for b, t in (batch.targets != IGNORED).nonzero().tolist():
        ratio = (log_probs_BT[b, t] - batch.old_log_probs_BT[b, t]).exp()
        near_ratio = ratio.clamp(1 - settings.clip_ratio, 1 + settings.clip_ratio)
        advantage, wanted = batch.advantages_BT[b, t], batch.returns_BT[b, t]
        of_policy.append(-min(ratio * advantage, near_ratio * advantage, key=Tensor.item))
        value, old = values_BT[b, t], batch.old_values_BT[b, t]
        near_value = old + (value - old).clamp(-settings.clip_value, settings.clip_value)
        of_value.append(0.5 * max((value - wanted) ** 2, (near_value - wanted) ** 2, key=Tensor.item))
    return torch.stack(of_policy).mean() + settings.value_coefficient * torch.stack(of_value).mean()


@pytest.mark.parametrize("shared", [True, False])
def test_ppo_is_the_papers_formula_token_by_token(shared: bool) -> None:
    settings = PpoRecipe(temperature=0.7, clip_ratio=0.1, clip_value=0.5, value_coefficient=0.3)
    batch = answers(6, settings)
    model = ActorCritic(tiny(), None if shared else tiny(3, tied=False)).train()
    with torch.no_grad():
        model.value_head.weight.normal_(generator=torch.Generator().manual_seed(4))
    statistics = Statistics()
    objective = ppo(settings, lambda _: batch, statistics)
    found = objective.loss(model, objective.collate(ROWS, 0))
    _close(found.mean, _ppo_by_hand(model, batch, settings), model)
    assert found.num_targets == int((batch.targets != IGNORED).sum())
    assert 0 < statistics.take()["clip_fraction"] < 1


def test_what_does_not_count_changes_nothing() -> None:
    """Whatever stands in the places outside of answers, even what is not a number."""
    settings = PpoRecipe()
    batch, model = answers(6, settings), ActorCritic(tiny()).train()
    spoilt = {
        item.name: getattr(batch, item.name).where(batch.counted, torch.nan)
        for item in fields(batch)
        if item.name not in {"targets", "inputs_BT"}
    }
    losses = []
    for given in (batch, replace(batch, **spoilt)):
        objective = ppo(settings, lambda _, given=given: given)  # type: ignore[misc]
        losses.append(objective.loss(model, objective.collate(ROWS, 0)).mean)
    _close(losses[1], losses[0], model)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_before_any_update_ratios_to_the_policy_that_wrote_the_answers_are_1(temperature: float) -> None:
    """In float32, and whatever way the distributions of all tokens are computed."""
    shape = Shape(
        family="llama", num_layers=2, width=32, num_heads=4, num_kv_heads=2, head_width=8, feedforward_width=48,
        vocabulary_size=61, context=40,
    )  # fmt: skip
    policy = build(shape, seed=1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.1)
    prompts = [list(range(1, 2 + row)) for row in range(6)]
    written = sample(
        policy, prompts, max_tokens=20, temperature=temperature, stop=frozenset({0, 7, 9}), seeds=range(6)
    )
    ids_BT = torch.zeros(6, 30, dtype=torch.int64)
    targets_BT = torch.full_like(ids_BT, IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, written, strict=True)):
        place = slice(len(prompt) - 1, len(prompt) - 1 + len(answer.ids))
        ids_BT[row, : len(prompt) + len(answer.ids)] = torch.tensor([*prompt, *answer.ids])
        targets_BT[row, place] = torch.tensor(answer.ids)
    with torch.no_grad():
        all_BTV = (policy(ids_BT) / temperature).log_softmax(-1)
    old_BT = all_BTV.gather(-1, targets_BT.clamp(min=0)[..., None])[..., 0]
    settings, zeros_BT, statistics = PpoRecipe(temperature=temperature), torch.zeros(6, 30), Statistics()
    batch = PolicyBatch(targets_BT, ids_BT, old_BT, torch.ones(6, 30), None, zeros_BT, zeros_BT)
    objective = ppo(settings, lambda _: batch, statistics)
    objective.loss(ActorCritic(policy).train(), objective.collate(ROWS, 0))
    figures = statistics.take()
    assert figures["ratio_error"] < 1e-5
    assert figures["clip_fraction"] == 0 and abs(figures["kl_to_old"]) < 1e-9
    entropies_BT = -(all_BTV.exp() * all_BTV).sum(-1)
    assert figures["entropy"] == pytest.approx(float(entropies_BT[targets_BT != IGNORED].mean()), rel=1e-5)


def test_k3_is_the_divergence_on_average() -> None:
    random = torch.Generator().manual_seed(0)
    own, other = (torch.randn(9, generator=random, dtype=torch.float64).log_softmax(0) for _ in range(2))
    exact = (own.exp() * (own - other)).sum()
    torch.testing.assert_close((own.exp() * k3(own, other)).sum(), exact)
    assert (k3(own, other) >= 0).all()


def test_a_small_step_raises_what_had_an_advantage_and_lowers_the_rest() -> None:
    settings = GrpoRecipe(loss="dapo", kl=0.0)
    batch, model = replace(answers(6, settings), reference_log_probs_BT=None), tiny().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    sequences = Batch(batch.inputs_BT, batch.targets)
    before = token_log_probs(model, sequences).detach()
    batch = replace(batch, old_log_probs_BT=before)
    objective = grpo(settings, lambda _: batch)
    objective.loss(model, objective.collate(ROWS, 0)).mean.backward()
    optimizer.step()
    moved = ((token_log_probs(model, sequences) - before) * batch.advantages_BT).sum()
    assert moved > 0


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_a_batch_without_an_answer_gives_a_loss_of_zero(name: str) -> None:
    settings = GrpoRecipe(loss=name)
    batch, model = answers(6, settings), tiny().train()
    batch = replace(batch, targets=torch.full_like(batch.targets, IGNORED))
    objective = grpo(settings, lambda _: batch)
    loss = objective.loss(model, objective.collate(ROWS, 0)).mean
    loss.backward()
    assert loss.item() == 0
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_unknown_losses_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"grpo.loss='dr_grpo' is unknown; did you mean 'dr-grpo'\?"):
        grpo(GrpoRecipe(loss="dr_grpo"), lambda _: answers(2, GrpoRecipe()))
