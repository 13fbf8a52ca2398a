"""How much memory each optimizer takes: its states, and what its step works with (`groundup.train.optimizers`)."""

from collections import defaultdict

from groundup.plan.parameters import ledger, total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape, family


def state_bytes(shape: Shape, settings: TrainRecipe) -> int:
    """Bytes that `settings.optimizer` keeps from step to step, its counters of 4 bytes a tensor left out.

    AdamW's, which are the most, for one that is not known here.
    """
    hidden = sum(rows * columns for rows, columns in hidden_matrices(shape))
    known = {
        "muon": 8 * total(shape) - 4 * hidden,
        "lion": 4 * total(shape),
        "adafactor": _adafactor(shape),
        "sgd": 4 * total(shape) if settings.beta1 else 0,
    }
    return known.get(settings.optimizer, 8 * total(shape))


def update_bytes(shape: Shape, settings: TrainRecipe) -> int:
    """Bytes that come and go in the step of `settings.optimizer`; nothing where the step is one fused operator."""
    return {"muon": _muon_step, "lion": _lion_step, "adafactor": _adafactor_step}.get(
        settings.optimizer, lambda _: 0
    )(shape)


def _muon_step(shape: Shape) -> int:
    """The directions; of the matrices of one size float32, bfloat16 and float32 again; the size before them."""
    by_size: defaultdict[tuple[int, int], int] = defaultdict(int)
    for sides in hidden_matrices(shape):
        by_size[min(sides), max(sides)] += 1
    most = before = 0
    for (short, long), count in by_size.items():
        most = max(most, before + count * (10 * short * long + 2 * short * short))
        before = 4 * count * short * long
    return most + 4 * sum(rows * columns for rows, columns in hidden_matrices(shape))


def _lion_step(shape: Shape) -> int:
    """The directions of all matrices."""
    return 4 * _matrices(shape)


def _adafactor_step(shape: Shape) -> int:
    """The update of a matrix, and that of the one before."""
    inner, query = shape.total_feedforward_width, shape.num_heads * shape.head_width
    return 4 * shape.width * max(2 * inner, shape.vocabulary_size + query)


def _matrices(shape: Shape) -> int:
    counts = ledger(shape)
    outer = counts["embedding"] + counts["position"] + counts["unembedding"]
    return outer + sum(rows * columns for rows, columns in hidden_matrices(shape))


def _adafactor(shape: Shape) -> int:
    """Rows and columns of matrices, all of vectors."""
    vocabulary, width = shape.vocabulary_size, shape.width
    outer = [(vocabulary, width)] * (1 if shape.tied else 2)
    outer += [(shape.context, width)] if family(shape.family).position == "learned" else []
    sides = sum(rows + columns for rows, columns in [*outer, *hidden_matrices(shape)])
    return 4 * (sides + total(shape) - _matrices(shape))


def hidden_matrices(shape: Shape) -> list[tuple[int, int]]:
    """Rows and columns of the matrices inside the blocks; an expert's are its own."""
    query, key = shape.num_heads * shape.head_width, shape.num_kv_heads * shape.head_width
    inner, experts = shape.expert_width or shape.feedforward_width, shape.num_experts or 1
    into = 2 if family(shape.family).feedforward == "swiglu" else 1
    block = [(query, shape.width), (key, shape.width), (key, shape.width), (shape.width, query)]
    block += [(shape.num_experts, shape.width)] if shape.num_experts else []
    return (block + ([(inner, shape.width)] * into + [(shape.width, inner)]) * experts) * shape.num_layers
