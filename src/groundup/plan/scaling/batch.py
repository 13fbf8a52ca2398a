"""How large a step's batch should be, and how fast to learn: measured noise, and the published rules.

`groundup.plan.candidates` has the rules that plans use; those here are for comparison and for larger machines.
"""

from typing import NamedTuple


class GradientNoise(NamedTuple):
    """|G|^2 of the true gradient, and the trace of the covariance of the gradients of single examples."""

    squared_gradient: float
    trace: float

    @property
    def noise_scale(self) -> float:
        """B_simple = tr(Sigma) / |G|^2, in examples: about the critical batch (McCandlish et al. 2018).

        arXiv:1812.06162, equation 2.9; it assumes that the loss is curved alike in all directions.
        """
        return self.trace / self.squared_gradient


def gradient_noise(
    small_batch: float, small_squared_norm: float, large_batch: float, large_squared_norm: float
) -> GradientNoise:
    """Unbiased estimates from the squared norms of two batches' gradients (McCandlish et al. 2018, appendix A.1).

    E |G_B|^2 = |G|^2 + tr(Sigma) / B, solved for two sizes B. A single pair is noisy and can even be negative:
    average each of the two estimates over many steps before dividing. The units of the batches are those of the
    noise scale: sequences or tokens.
    """
    if small_batch >= large_batch:
        raise ValueError(f"small_batch={small_batch} must be smaller than large_batch={large_batch}")
    squared = (large_batch * large_squared_norm - small_batch * small_squared_norm) / (large_batch - small_batch)
    trace = (small_squared_norm - large_squared_norm) / (1.0 / small_batch - 1.0 / large_batch)
    return GradientNoise(squared, trace)


class TradeOff(NamedTuple):
    """What a batch costs beside the fewest steps and the fewest examples: factors of at least 1."""

    steps: float
    examples: float


def trade_off(batch: float, critical_batch: float) -> TradeOff:
    """Steps over the fewest, and examples over the fewest, to the same loss.

    (S / S_min - 1)(E / E_min - 1) = 1 with B_crit = E_min / S_min (McCandlish et al. 2018, equation 2.11): at the
    critical batch both are 2.
    """
    return TradeOff(1.0 + critical_batch / batch, 1.0 + batch / critical_batch)


def kaplan_critical_batch(loss: float) -> float:
    """Tokens: 2.1e8 / L^(1 / 0.21), L in nats per token (Kaplan et al. 2020, arXiv:2001.08361, equation 5.3)."""
    return 2.1e8 / loss ** (1 / 0.21)


def step_law_batch(tokens: float) -> float:
    """Tokens a step: 0.58 D^0.571 (Li et al. 2025, arXiv:2503.04715; AdamW, cosine to 1e-5)."""
    return 0.58 * tokens**0.571


def step_law_lr(parameters: float, tokens: float) -> float:
    """Peak rate of AdamW: 1.79 N^-0.713 D^0.307, N without embeddings (Li et al. 2025, arXiv:2503.04715)."""
    return 1.79 * parameters**-0.713 * tokens**0.307


def deepseek_batch(flops: float) -> float:
    """Tokens a step: 0.2920 C^0.3271, C without embeddings (DeepSeek-AI 2024, arXiv:2401.02954, formula 1)."""
    return 0.2920 * flops**0.3271


def deepseek_lr(flops: float) -> float:
    """Peak learning rate of AdamW: 0.3118 C^-0.125, C without embeddings (DeepSeek-AI 2024, arXiv:2401.02954)."""
    return 0.3118 * flops**-0.1250


def nanochat_batch(tokens: float, reference_tokens: float) -> float:
    """Tokens a step: 2^19 (D / D_ref)^0.383, as in nanochat's scripts/base_train.py, rounded there to 2^k.

    The exponent is that of Bergsma et al. 2025 (Power Lines, arXiv:2505.13738). `reference_tokens` is the
    compute-optimal number of tokens of nanochat's model of depth 12, for which 2^19 was measured to be best.
    """
    return 2.0**19 * (tokens / reference_tokens) ** 0.383
