"""The figures that every plan of a run shows alike, whatever it is to run on."""

from groundup.plan.figures import Figure
from groundup.plan.flops import train_flops_per_token
from groundup.shape import Shape


def shape_figures(shape: Shape) -> list[Figure]:
    """What the model looks like."""
    return [
        Figure("num_layers", "layers", shape.num_layers, "count"),
        Figure("width", "width", shape.width, "count"),
        Figure("num_heads", "heads", shape.num_heads, "count"),
        Figure("context", "context", shape.context, "tokens"),
        Figure("vocabulary_size", "vocabulary", shape.vocabulary_size, "count"),
    ]


def tokens_figure(shape: Shape, steps: int, batch_size: int) -> Figure:
    """The tokens of so many steps of `batch_size` sequences."""
    return Figure("tokens", "training tokens", steps * batch_size * shape.context, "tokens", formula="S B T",
                  values={"S": steps, "B": batch_size, "T": shape.context},
                  source="as many steps as the budget allows")  # fmt: skip


def flops_figure(shape: Shape, tokens: float) -> Figure:
    """The computation of training on so many tokens."""
    per_token = train_flops_per_token(shape)
    source = "6 per weight in a product, and causal attention (Kaplan et al. 2020, arXiv:2001.08361)"
    values = {"D": tokens, "f": per_token}
    return Figure("flops", "computation", tokens * per_token, "flops", "D f", values, source)


def epochs_figures(tokens: float, unique_tokens: float | None) -> list[Figure]:
    """How often the text is read, where it is known how much there is."""
    if unique_tokens is None:
        return []
    values = {"D": tokens, "U": unique_tokens}
    return [Figure("epochs", "times the text is read", tokens / unique_tokens, formula="D / U", values=values)]


def next_best(layers: int, width: int, losses: tuple[float, float], computation: float) -> str:
    """A sentence on the model after the best: its expected loss beside the best one's, and its computation."""
    own, best = losses
    return (
        f"next best: {layers} layers of width {width}, expected {own:.3f} against {best:.3f}, for "
        f"{computation:.2f} times the computation"
    )
