"""How a pipeline is cut: which blocks, and how many parameters, each of its stages has."""

from dataclasses import dataclass
from functools import lru_cache

from groundup.plan.parameters import final_norm, ledger
from groundup.shape import Shape


@dataclass(frozen=True)
class Stage:
    """One part of a pipeline: some of the layers, with the embedding before the first and the head after the last.

    `parameters` are those of the whole stage, before tensor parallelism and ZeRO divide them.
    """

    index: int
    layers: int
    parameters: int
    is_first: bool
    is_last: bool


def stages(shape: Shape, count: int) -> tuple[Stage, ...]:
    """The model cut into `count` stages of about equal computation.

    Layers and the unembedding count by their matrix products, the embedding not at all; a block belongs to the
    stage in whose part of the sum it begins (as nanotron cuts, `nanotron.models.base.build_model`). A tied
    embedding is on the first and on the last of several stages.
    """
    counts = ledger(shape)
    first = counts["embedding"] + counts["position"]
    head = shape.vocabulary_size * shape.width
    last = final_norm(shape) + (head if count > 1 or not shape.tied else 0)
    layer = (sum(counts.values()) - first - counts["unembedding"] - final_norm(shape)) // shape.num_layers
    return tuple(
        Stage(
            index=index,
            layers=layers,
            parameters=layers * layer + (first if index == 0 else 0) + (last if index == count - 1 else 0),
            is_first=index == 0,
            is_last=index == count - 1,
        )
        for index, layers in enumerate(_cut(shape.num_layers, layer, head, count))
    )


@lru_cache
def _cut(num_layers: int, layer_cost: int, head_cost: int, count: int) -> tuple[int, ...]:
    """Layers of each stage."""
    whole = num_layers * layer_cost + head_cost
    layers, index, before = [0] * count, 0, 0
    for _ in range(num_layers):
        layers[index] += 1
        before += layer_cost
        # On the very border is the next stage: activations of the Playbook's 1B model on 2 and 4 stages show it.
        index += before * count >= whole * (index + 1)
    return tuple(layers)
