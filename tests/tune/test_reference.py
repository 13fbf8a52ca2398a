import torch

from groundup.model.decoder import Decoder
from groundup.model.lora import adapters_off, add_adapters
from groundup.model.registry import build
from groundup.objective.base import IGNORED, Batch
from groundup.objective.log_probs import token_log_probs
from groundup.shape import Shape
from groundup.tune.reference import held_bytes, log_probs_in_parts, reference_of, share_equal

SHAPE = Shape(
    family="llama", num_layers=2, width=16, num_heads=2, num_kv_heads=2, head_width=8, feedforward_width=32,
    vocabulary_size=50, context=32, tied=False,
)  # fmt: skip
IDS = torch.randint(0, 50, (5, 9), generator=torch.Generator().manual_seed(1))
BATCH = Batch(IDS, torch.where(IDS % 3 == 0, IGNORED, IDS.roll(-1, 1)))


def learn(model: Decoder) -> None:
    """Let everything move that may."""
    token_log_probs(model, BATCH).sum().backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight.add_(weight.grad, alpha=0.05)


def test_the_reference_stays_where_the_policy_began() -> None:
    policy = build(SHAPE, seed=1)
    before = token_log_probs(policy, BATCH).detach()
    reference = reference_of(policy)
    assert held_bytes([policy, reference])[0] == held_bytes([policy, reference])[1]
    learn(policy)
    assert torch.equal(token_log_probs(reference, BATCH), before)
    assert not torch.allclose(token_log_probs(policy, BATCH), before)
    assert not any(weight.requires_grad for weight in reference.parameters())


def test_with_adapters_the_reference_is_the_policy_without_them() -> None:
    policy = build(SHAPE, seed=1)
    add_adapters(policy, rank=2, alpha=4.0, targets="all", dropout=0.0, seed=3)
    reference = reference_of(policy)
    assert held_bytes([policy, reference])[1] == 0
    for _ in range(2):
        learn(policy)
    with adapters_off(policy):
        expected = token_log_probs(policy, BATCH)
    assert torch.equal(token_log_probs(reference, BATCH), expected)
    assert not torch.allclose(token_log_probs(policy, BATCH), expected)


def test_what_is_frozen_of_a_policy_is_held_once() -> None:
    policy = build(SHAPE, seed=1)
    policy.embedding.requires_grad_(False)
    policy.blocks[0].requires_grad_(False)
    sizes = held_bytes([policy, reference_of(policy)])
    frozen = sum(weight.nbytes for weight in policy.parameters() if not weight.requires_grad)
    assert sizes == [sizes[0], sizes[0] - frozen]


def test_equal_weights_are_shared_and_others_are_not() -> None:
    reference, judge = reference_of(build(SHAPE, seed=1)), build(SHAPE, seed=1)
    with torch.no_grad():
        judge.blocks[1].attention.query.weight.add_(1e-3)
    before = judge(IDS)
    share_equal(judge, reference)
    assert torch.equal(judge(IDS), before)
    assert held_bytes([reference, judge])[1] == judge.blocks[1].attention.query.weight.nbytes


def test_a_judge_made_of_adapters_stands_on_the_reference() -> None:
    reference, judge = reference_of(build(SHAPE, seed=1)), build(SHAPE, seed=1)
    add_adapters(judge, rank=2, alpha=4.0, targets="all", dropout=0.0, seed=3)
    learn(judge)
    before = judge(IDS)
    share_equal(judge, reference)
    assert torch.equal(judge(IDS), before)
    own = sum(weight.nbytes for weight in judge.parameters() if weight.requires_grad)
    assert held_bytes([reference, judge])[1] == own


def test_parts_give_what_the_whole_gives() -> None:
    model = build(SHAPE.model_copy(update={"dropout": 0.5}), seed=1).train()
    found = log_probs_in_parts(model, BATCH, temperature=0.7, rows=2, device="cpu")
    assert model.training
    expected = (model.eval()(IDS).double() / 0.7).log_softmax(-1)
    expected = expected.gather(2, BATCH.targets_BT.clamp(min=0)[..., None])[..., 0]
    assert torch.allclose(found.double(), expected.where(BATCH.targets_BT != IGNORED, 0.0), atol=1e-5)
