import pytest
import torch

from groundup.model.reward import RewardModel

from .conftest import MakeModel, MakeShape


@pytest.fixture
def model(make_shape: MakeShape, make_random: MakeModel) -> RewardModel:
    return RewardModel(make_random(make_shape("qwen3", tied=False)), seed=3).eval()


def test_padding_behind_the_last_token_changes_nothing(model: RewardModel, ids: torch.Tensor) -> None:
    last = torch.tensor([4, 9, 23])
    found = model(ids, last)
    for row, place in enumerate(last.tolist()):
        alone = model(ids[row : row + 1, : place + 1], torch.tensor([place]))
        torch.testing.assert_close(found[row], alone[0])


def test_the_head_starts_small_and_from_the_seed(make_shape: MakeShape, make_random: MakeModel) -> None:
    shape = make_shape("llama", width=256, head_width=64)
    heads = [RewardModel(make_random(shape), seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].std().item() == pytest.approx(257**-0.5, rel=0.15)


def test_the_way_back_to_words_is_dropped(make_shape: MakeShape, make_random: MakeModel) -> None:
    body = make_random(make_shape("qwen3", tied=False))
    before = sum(weight.numel() for weight in body.parameters())
    model = RewardModel(body)
    after = sum(weight.numel() for weight in model.parameters())
    assert before - after == 61 * 32 - 32 and model.shape.tied


def test_normalised_rewards_have_mean_0_and_deviation_1(model: RewardModel, ids: torch.Tensor) -> None:
    last = torch.tensor([4, 9, 23])
    with torch.no_grad():
        scores = model.scores(ids, last)
        assert torch.equal(model(ids, last), scores)
        model.normalise(scores)
        rewards = model(ids, last)
    assert rewards.mean().item() == pytest.approx(0, abs=1e-5)
    assert rewards.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert (rewards.argsort() == scores.argsort()).all()
    assert {"mean", "std"} <= model.state_dict().keys()


def test_equal_scores_are_only_shifted(model: RewardModel) -> None:
    model.normalise(torch.full((5,), 2.0))
    assert (model.mean.item(), model.std.item()) == (2.0, 1.0)
