import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.serve.sampling import Sampling, choose_token, truncate

_LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30, unique=True)


def _kept(logits: torch.Tensor, sampling: Sampling) -> list[int]:
    """The ids that are left, likeliest first; what is kept keeps its logit."""
    truncated = truncate(logits, sampling)
    kept = truncated.isfinite()
    assert torch.equal(truncated[kept], logits[kept])
    assert (truncated[~kept] == -math.inf).all()
    ids = kept.nonzero().flatten().tolist()
    return sorted(ids, key=lambda number: -float(logits[number]))


@given(_LOGITS, st.integers(0, 40))
def test_top_k_keeps_the_k_likeliest(values: list[float], top_k: int) -> None:
    logits = torch.tensor(values)
    expected = sorted(range(len(values)), key=lambda number: -values[number])[: top_k or None]
    assert _kept(logits, Sampling(top_k=top_k)) == expected


@settings(max_examples=300)
@given(_LOGITS, st.floats(0.001, 0.999), st.integers(0, 40))
def test_top_p_keeps_the_smallest_prefix_that_reaches_p(values: list[float], top_p: float, top_k: int) -> None:
    """Of the probabilities left by top-k, in float64: with the last one they reach p, without it they do not."""
    logits = torch.tensor(values)
    candidates = sorted(range(len(values)), key=lambda number: -values[number])[: top_k or None]
    weights = [math.exp(values[number]) for number in candidates]
    shares = [weight / math.fsum(weights) for weight in weights]
    kept = _kept(logits, Sampling(top_k=top_k, top_p=top_p))
    assert kept == candidates[: len(kept)]
    assert len(kept) >= 1
    rounding = 1e-5
    assert math.fsum(shares[: len(kept)]) >= top_p - rounding
    assert math.fsum(shares[: len(kept) - 1]) < top_p + rounding


def test_all_in_is_all_in() -> None:
    logits = torch.tensor([3.0, -50.0, 3.0, 0.0])
    assert torch.equal(truncate(logits, Sampling(top_k=0, top_p=1.0)), logits)


@given(_LOGITS)
def test_temperature_zero_takes_the_likeliest(values: list[float]) -> None:
    token = choose_token(torch.tensor(values), Sampling(temperature=0), torch.Generator())
    assert values[token] == max(values)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(temperature=1.0, top_k=0), 6),
        (Sampling(temperature=0.5, top_k=0), 6),
        (Sampling(temperature=2.0, top_k=0), 6),
        (Sampling(temperature=1.0, top_k=3), 3),
        (Sampling(temperature=0.7, top_k=0, top_p=0.8), 3),
    ],
)
def test_frequencies_are_the_softmax_at_the_temperature(sampling: Sampling, kept: int) -> None:
    """Pearson's chi-square over 4,000 draws; a true sampler exceeds p = 0.001 once in a thousand seeds."""
    logits = torch.tensor([0.5, 1.5, -0.5, 1.0, 0.0, -1.0])
    order = logits.argsort(descending=True)[:kept]
    shares = (logits.double()[order] / sampling.temperature).softmax(0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([choose_token(logits, sampling, generator) for _ in range(4000)])
    counts = torch.stack([(drawn == number).sum() for number in order]).double()
    assert counts.sum() == 4000  # nothing outside what top-k and top-p leave
    statistic = ((counts - 4000 * shares) ** 2 / (4000 * shares)).sum()
    p_value = torch.special.gammaincc(torch.tensor((kept - 1) / 2, dtype=torch.float64), statistic / 2)
    assert float(p_value) > 0.001


def test_the_seed_decides_the_draw() -> None:
    logits, sampling = torch.zeros(1000), Sampling(temperature=1.0, top_k=0)
    first, again, other = (
        [choose_token(logits, sampling, generator) for _ in range(5)]
        for generator in (torch.Generator().manual_seed(seed) for seed in (1, 1, 2))
    )
    assert first == again != other


def test_half_precision_logits_can_be_sampled() -> None:
    logits = torch.tensor([0.0, 30.0, 1.0], dtype=torch.bfloat16)
    assert choose_token(logits, Sampling(), torch.Generator().manual_seed(0)) == 1


@pytest.mark.parametrize("temperature", [1e-38, 1e-45])
def test_temperatures_near_zero_are_like_zero(temperature: float) -> None:
    logits = torch.tensor([1.0, 10.0, 3.0])
    assert choose_token(logits, Sampling(temperature=temperature), torch.Generator().manual_seed(0)) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": -0.1}, "--temperature -0.1"),
        ({"top_k": -1}, "--top-k -1"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 1.01}, "--top-p 1.01"),
        ({"top_p": math.nan}, "--top-p nan"),
        ({"temperature": math.nan}, "--temperature nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Sampling(**settings)
