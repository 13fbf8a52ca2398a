"""What a layer keeps of a micro-batch from its forward pass until its backward pass, on one of many devices.

Counted as Korthikanti et al. 2022 (arXiv:2205.05198) count for GPT, tensor by tensor for any widths, with their
34 s b h + 5 a s^2 b as the special case; the parts of gated layers are those of the Ultra-Scale Playbook's
calculator. In short: B bytes a value, b sequences a micro-batch, s tokens, h width, a heads, F feed-forward width,
t tensor, c context parallel devices.
"""

from typing import NamedTuple

from groundup.plan.cluster.layout import Layout
from groundup.plan.memory import Recompute
from groundup.shape import Shape, family


def hidden_bytes(shape: Shape, layout: Layout, value_bytes: int = 2) -> float:
    """B b s/c h: the stream between layers of one micro-batch, before tensor parallelism divides it."""
    return value_bytes * layout.micro_batch * shape.context / layout.context * shape.width


class TokenBytes(NamedTuple):
    """What a layer keeps of a token: what sequence parallelism alone divides, and what tensor parallelism does."""

    outside: float
    inside: float


def layer_bytes(
    shape: Shape,
    layout: Layout,
    *,
    recompute: Recompute = "none",
    flash: bool = True,
    dropout: bool = False,
    value_bytes: int = 2,
) -> float:
    """Bytes that one layer keeps of one micro-batch on one device: b s/c of `token_bytes`, each part divided.

    Args:
        shape: of the model; its context is the length s.
        layout: of which micro-batch, tensor, sequence and context count.
        recompute: see `token_bytes`, as for the rest.
        flash: attention is fused, and scores are not kept.
        dropout: masks of a byte a value are kept after attention, after the feed-forward part, and of scores.
        value_bytes: B, 2 for bfloat16.
    """
    outside, inside = token_bytes(
        shape, recompute=recompute, flash=flash, dropout=dropout, value_bytes=value_bytes
    )
    tokens = layout.micro_batch * shape.context / layout.context
    return tokens * (outside / (layout.tensor if layout.sequence else 1) + inside / layout.tensor)


def token_bytes(
    shape: Shape,
    *,
    recompute: Recompute = "none",
    flash: bool = True,
    dropout: bool = False,
    value_bytes: int = 2,
) -> TokenBytes:
    """Bytes that one layer keeps of one token before devices divide them; arguments as for `layer_bytes`.

    Selective recomputation drops what lies between queries, keys, values and the attention's result, which a fused
    kernel (`flash`) never keeps but for a number a row; full recomputation keeps the layer's input alone.
    """
    if recompute == "full":
        return TokenBytes(value_bytes * shape.width, 0)
    query, key = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    # Inputs of both norms, of the attention's and of the feed-forward part's first product.
    outside = (4 * value_bytes + (2 if dropout else 0)) * shape.width
    # Queries, keys, values, the attention's result; a gated layer keeps gate, up, the gate's activation, and the
    # product, another the values before and after the activation.
    traits = family(shape.family)
    hidden = 4 if traits.feedforward == "swiglu" else 2
    inside: float = value_bytes * (2 * query + 2 * key + hidden * shape.feedforward_width)
    if shape.experts_per_token:
        inside += 2 * value_bytes * shape.experts_per_token * shape.width  # what goes to experts and comes back
    if traits.qk_norm:
        inside += value_bytes * (query + key)
    if recompute == "none":
        inside += shape.num_heads * _attention_bytes(shape.context, flash, dropout, value_bytes)
    return TokenBytes(outside, inside)


def _attention_bytes(length: int, flash: bool, dropout: bool, value_bytes: int) -> float:
    """A query and head: the logarithm of the kernel's sum; or probabilities, with dropout a mask and the rest."""
    if flash:
        return 4
    return length * (2 * value_bytes + 1 if dropout else value_bytes)


def logits(shape: Shape, layout: Layout) -> float:
    """Logits of one micro-batch on one device, which divide over the tensor group by vocabulary."""
    return layout.micro_batch * shape.context / layout.context * shape.vocabulary_size / layout.tensor


def in_flight(layout: Layout, stage: int) -> float:
    """Micro-batches of which the device of the pipeline's `stage` keeps activations at once.

    All m of them where each pass goes through the whole batch first (GPipe, Huang et al. 2019, arXiv:1811.06965);
    min(p - i, m) with one forward, one backward (Narayanan et al. 2021, arXiv:2104.04473); with v virtual stages a
    device also starts on 2(p - i - 1) + (v - 1)p + 1 of its m v parts of micro-batches, which makes
    p(1 + (p-1)/(pv)) micro-batches on the first (Korthikanti et al. 2022, section 4.2.3).
    """
    if layout.schedule == "gpipe":
        return layout.accumulation
    after = layout.pipeline - stage - 1
    if layout.schedule == "1f1b":
        return min(after + 1, layout.accumulation)
    parts = 2 * after + (layout.virtual_stages - 1) * layout.pipeline + 1
    return min(parts / layout.virtual_stages, layout.accumulation)
