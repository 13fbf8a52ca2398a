"""The models that a plan chooses among: a ladder of shapes, and the rules that set everything else by size."""

import math
from typing import NamedTuple

from groundup.errors import UserError
from groundup.recipe import ModelRecipe
from groundup.shape import Shape, decoder_family, family

# (layers, width): depth grows with width, as in the ladders of nanochat and OLMo.
_LADDER = (
    (2, 64), (3, 96), (4, 128), (4, 160), (5, 192), (6, 256), (6, 320), (7, 384), (8, 448), (8, 512), (10, 640),
    (12, 768), (14, 896), (16, 1024), (20, 1280), (24, 1536), (24, 2048), (28, 2560), (32, 4096),
    (40, 5120), (60, 6656), (80, 8192), (96, 12288), (126, 16384),
)  # fmt: skip


class RateRule(NamedTuple):
    """The best rate at the reference, how it falls with the size and grows with the batch, and its ceiling."""

    at_reference: float
    exponent: float
    batch_exponent: float
    highest: float


REFERENCE_PARAMETERS, REFERENCE_BATCH_TOKENS = 7.4e5, 1024
_RATES = {"adamw": RateRule(3.2e-3, 0.58, 0.5, 1.2e-2), "muon": RateRule(1.25e-2, 0.3, 0.0, 2.4e-2)}

# Of a mixture: about what the large published ones store of what they compute with, made small.
_EXPERTS, _EXPERTS_PER_TOKEN = 8, 2

_VOCABULARIES = (512, 1024, 2048, 4096, 8192, 16384, 32768)


def ladder(model: ModelRecipe, vocabulary_size: int, context: int) -> list[Shape]:
    """Shapes from small to large, with what the recipe fixes kept fixed.

    Rungs that do not go with what is fixed are left out; UserError says why if none is left.
    """
    shapes: list[Shape] = []
    misfits: list[UserError] = []
    for layers, width in _LADDER:
        try:
            shape = _complete(model, model.num_layers or layers, model.width or width, vocabulary_size, context)
        except UserError as misfit:
            misfits.append(misfit)
            continue
        if shape not in shapes:
            shapes.append(shape)
    if not shapes:
        raise misfits[0]
    return shapes


def _complete(model: ModelRecipe, num_layers: int, width: int, vocabulary_size: int, context: int) -> Shape:
    """Fill in heads and feed-forward width for a model of this depth and width."""
    traits = decoder_family(model.family)
    head_width = model.head_width or _head_width(width, model.num_heads)
    per_token = model.experts_per_token or (_EXPERTS_PER_TOKEN if traits.experts else None)
    num_heads = model.num_heads or max(1, width // head_width)
    if model.num_heads is None and model.head_width is None and num_heads * head_width != width:
        raise UserError(
            f"model.width={width} cannot be cut into even heads; make it a multiple of 16, "
            "or give model.num_heads and model.head_width"
        )
    return Shape(
        family=model.family,
        num_layers=num_layers,
        width=width,
        num_heads=num_heads,
        num_kv_heads=model.num_kv_heads or (_kv_heads(num_heads) if traits.grouped_query else num_heads),
        head_width=head_width,
        feedforward_width=_feedforward_width(model, width, per_token or 1),
        vocabulary_size=vocabulary_size,
        context=model.context or context,
        tied=model.tied,
        rope_theta=model.rope_theta,
        num_experts=model.num_experts or (_EXPERTS if traits.experts else None),
        experts_per_token=per_token,
        router_aux_loss_coef=model.router_aux_loss_coef,
        dropout=model.dropout,
    )


def _head_width(width: int, num_heads: int | None) -> int:
    """32 channels a head for small models, 64 and then 128 for larger ones, or what divides the width."""
    if num_heads:
        if width % num_heads:
            raise UserError(
                f"model.width={width} is not a multiple of model.num_heads={num_heads}; change one of them"
            )
        return width // num_heads
    wanted = 32 if width < 384 else 64 if width < 2048 else 128
    return next((size for size in (wanted, 64, 32, 16) if size <= wanted and width % size == 0), width)


def _kv_heads(num_heads: int) -> int:
    """Two query heads share a key/value head where that divides, which halves the cache."""
    return num_heads // 2 if num_heads % 2 == 0 else num_heads


def _feedforward_width(model: ModelRecipe, width: int, per_token: int) -> int:
    """4 times the width; 8/3 with a gate, which keeps the parameters the same (Shazeer 2020).

    A token's experts have it together. UserError where the recipe gives two widths that differ.
    """
    given = model.expert_width and model.expert_width * per_token
    if given and model.feedforward_width not in (None, given):
        raise UserError(
            f"model.expert_width={model.expert_width} times {per_token} experts a token is {given}, not "
            f"model.feedforward_width={model.feedforward_width}; leave one of them unset"
        )
    if given or model.feedforward_width:
        return given or model.feedforward_width or 0
    if family(model.family).feedforward == "gelu":
        return 4 * width
    unit = max(32, 16 * per_token)
    return math.ceil(width * 8 / 3 / unit) * unit


def context_for(tokens: float) -> int:
    """Longer contexts cost more and pay only once the model has learnt what is near."""
    for limit, context in ((8e6, 128), (5e7, 256), (1e9, 512), (1e10, 1024)):
        if tokens < limit:
            return context
    return 2048


def vocabulary_for(tokens: float, corpus_bytes: float) -> int:
    """A larger vocabulary packs more text into a token, but each entry needs to be seen often enough to be learnt.

    About 1,000 training tokens an entry, and no more entries than the corpus can fill (one per 500 bytes).
    """
    affordable = min(tokens / 1000, corpus_bytes / 500)
    return max(size for size in _VOCABULARIES if size <= max(affordable, _VOCABULARIES[0]))


def batch_tokens_for(tokens: float) -> float:
    """Tokens per step: B = 0.4 D^0.571.

    The exponent is that of the Step Law (Li et al. 2025, arXiv:2503.04715); its factor of 0.58 gave steps that
    were too few for short runs: at 1M tokens 16 sequences of 128 ended 3 % above 8 (benchmarks/LOG.md).
    """
    return 0.4 * tokens**0.571


def batch_tokens_for_steps(steps: float) -> float:
    """The batch rule solved for a number of steps: B = f(S B), by iteration."""
    batch = 1024.0
    for _ in range(20):
        batch = batch_tokens_for(steps * batch)
    return batch


def rate_rule(optimizer: str) -> RateRule:
    """The rule of an optimizer's learning rate."""
    return _RATES.get(optimizer, _RATES["adamw"])


def learning_rate_for(parameters: int, batch_tokens: int, optimizer: str) -> float:
    """Peak learning rate for a model of so many non-embedding parameters.

    Falls with the size as measured at widths 64, 128 and 256 with 1,024 tokens a step, for Muon also at 512 with
    4,096 (benchmarks/LOG.md). AdamW's grows with the square root of the batch (Malladi et al. 2022,
    arXiv:2205.10287); Muon's best rate did not. Optimizers other than `muon` take AdamW's, which they scale.
    """
    rule = rate_rule(optimizer)
    by_size = rule.at_reference * (parameters / REFERENCE_PARAMETERS) ** -rule.exponent
    return min(rule.highest, by_size * (batch_tokens / REFERENCE_BATCH_TOKENS) ** rule.batch_exponent)
