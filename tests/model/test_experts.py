import pytest
import torch
import torch.nn.functional as F

from groundup.model.experts import MixtureOfExperts, StackedLinear, recorded_routing
from groundup.objective.causal import CAUSAL
from groundup.shape import Shape

from .conftest import MakeModel, MakeShape


def _mixture(make_shape: MakeShape, make_random: MakeModel, **changes: object) -> tuple[MixtureOfExperts, Shape]:
    shape = make_shape("qwen3_moe", num_layers=1, **changes)
    return make_random(shape).blocks[0].feedforward, shape


def _inputs(width: int = 32) -> torch.Tensor:
    return torch.randn(3, 10, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("norm_topk_prob", [True, False])
@pytest.mark.parametrize(("num_experts", "per_token"), [(4, 2), (1, 1), (3, 3), (12, 1)])
def test_each_token_gets_the_weighted_sum_of_its_experts(
    num_experts: int, per_token: int, norm_topk_prob: bool, make_shape: MakeShape, make_random: MakeModel
) -> None:
    """Token by token and expert by expert in float64, as the papers write it; some experts get no token."""
    mixture, shape = _mixture(
        make_shape,
        make_random,
        num_experts=num_experts,
        experts_per_token=per_token,
        norm_topk_prob=norm_topk_prob,
    )
    mixture.double()
    x = _inputs().double()
    expected = torch.zeros_like(x)
    for place in ((sequence, token) for sequence in range(3) for token in range(10)):
        probabilities = (mixture.router.weight @ x[place]).softmax(0).tolist()
        chosen = sorted(range(shape.num_experts), key=lambda expert: -probabilities[expert])[:per_token]
        whole = sum(probabilities[expert] for expert in chosen) if norm_topk_prob else 1.0
        for expert in chosen:
            gate, up, down = (getattr(mixture.experts, name).weight[expert] for name in ("gate", "up", "down"))
            given = down @ (F.silu(gate @ x[place]) * (up @ x[place]))
            expected[place] += probabilities[expert] / whole * given
    with torch.no_grad():
        torch.testing.assert_close(mixture(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("width", "out"), [(16, 24), (6, 5)], ids=["grouped kernel", "one by one"])
def test_bfloat16_products_and_gradients_are_those_of_each_expert(width: int, out: int) -> None:
    """By PyTorch's grouped kernel where it can, else by one product after the other; one expert has no rows."""
    maps, tokens = StackedLinear(4, width, out), torch.tensor([5, 0, 40, 3])
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        maps.weight.copy_(torch.randn(maps.weight.shape, generator=random))
    x, pulls = torch.randn(48, width, generator=random), torch.randn(48, out, generator=random)
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = maps(given, tokens)
    assert made.dtype == torch.bfloat16
    made.backward(pulls.bfloat16())
    for part, weight, gradient in zip(
        zip(*(rows.split(tokens.tolist()) for rows in (x, pulls, made, given.grad)), strict=True),
        maps.weight.detach(),
        maps.weight.grad,
        strict=True,
    ):
        inputs, pull, found, back = part
        torch.testing.assert_close(found.float(), inputs @ weight.T, rtol=0.02, atol=0.1)
        torch.testing.assert_close(back, pull @ weight, rtol=0.02, atol=0.1)
        torch.testing.assert_close(gradient, pull.T @ inputs, rtol=0.02, atol=0.2)


def test_the_router_decides_in_float32(make_shape: MakeShape, make_random: MakeModel) -> None:
    """Under autocast it sends each token where it does without, for the same input."""
    mixture, _ = _mixture(make_shape, make_random, num_experts=12)
    x = _inputs().bfloat16().float()
    with torch.no_grad(), recorded_routing(mixture) as exact:
        mixture(x)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), recorded_routing(mixture) as short:
        mixture(x.bfloat16())
    assert torch.equal(exact.layers[0].probability_E, short.layers[0].probability_E)
    assert torch.equal(exact.tokens, short.tokens)


def test_routing_is_recorded_for_one_pass(
    make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor
) -> None:
    shape = make_shape("qwen3_moe")
    model = make_random(shape)
    with recorded_routing(model) as routing:
        model(ids)
    model(ids)
    assert routing.tokens.shape == (shape.num_layers, shape.num_experts)
    assert routing.tokens.sum(1).tolist() == [2 * ids.numel()] * shape.num_layers
    assert all(block.feedforward.routing is None for block in model.blocks)
    with recorded_routing(make_random(make_shape("llama"))) as routing:
        pass
    assert routing.layers == []


def test_an_even_load_has_the_least_balance_loss(make_shape: MakeShape, make_random: MakeModel) -> None:
    """A router of zeros gives each expert the same probability: K. One that sends all to the same gives more."""
    mixture, shape = _mixture(make_shape, make_random)
    found = []
    for router in (torch.zeros_like(mixture.router.weight), 10 * mixture.router.weight):
        with torch.no_grad(), recorded_routing(mixture) as routing:
            mixture.router.weight.copy_(router)
            mixture(_inputs().abs())
        found.append(float(routing.balance_loss()))
    assert found[0] == pytest.approx(shape.experts_per_token)
    assert found[1] > found[0] + 0.1


def test_the_penalty_evens_out_a_lopsided_load(make_shape: MakeShape, make_random: MakeModel) -> None:
    """Plain gradient descent on the penalty alone moves the tokens of the fullest expert to the others."""
    mixture, _ = _mixture(make_shape, make_random, router_aux_loss_coef=1.0)
    x, loads = _inputs(), []
    with torch.no_grad():
        mixture.router.weight[0] += 0.3 * x.flatten(0, 1).mean(0).sign()
    for _ in range(60):
        with recorded_routing(mixture) as routing:
            mixture(x)
        loads.append(int(routing.tokens.max()))
        mixture.router.weight.grad = None
        routing.penalty().backward()
        with torch.no_grad():
            mixture.router.weight -= 0.3 * mixture.router.weight.grad
    assert loads[-1] < loads[0]


def test_the_objective_adds_the_penalty_only_in_training(
    make_shape: MakeShape, make_random: MakeModel, ids: torch.Tensor
) -> None:
    model = make_random(make_shape("qwen3_moe", router_aux_loss_coef=0.5))
    batch = CAUSAL.collate(ids.numpy())
    with recorded_routing(model) as routing:
        model(batch.inputs_BT)
    plain, training = CAUSAL.loss(model, batch).mean, CAUSAL.loss(model.train(), batch).mean
    assert (training - plain).item() == pytest.approx(0.5 * routing.balance_loss().item(), rel=1e-4)
