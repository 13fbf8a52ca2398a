"""The ledger of a model's parameters: which matrices there are, what for, and how large their share is."""

from typing import Any

from groundup.plan.parameters import ledger, total
from groundup.plan.tensors import tensors_of
from groundup.shape import Shape

_GROUPS = {
    "embeddings": ("embedding", "position", "unembedding"),
    "attention": ("query", "key", "value", "output"),
    "feed-forward": ("gate", "up", "down", "router"),
    "norms": ("norm",),
}
_ROLES = {
    "embedding": "a vector for each token of the vocabulary",
    "position": "a vector for each place in the context",
    "unembedding": "a score for each token that could come next",
    "query": "what a token looks for in those before it",
    "key": "what a token is found by",
    "value": "what a token passes on when it is found",
    "output": "brings what the heads found back into the stream",
    "gate": "decides how far each feature opens",
    "up": "asks each token for a wide row of features",
    "down": "adds what the features mean to the stream",
    "router": "chooses the experts of each token",
    "norm": "keeps the numbers of the stream in proportion",
}


def ledger_rows(shape: Shape) -> list[dict[str, Any]]:
    """A row for each category of parameters that `shape` has: category, group, role, tensors, parameters, share.

    An unembedding that is the embedding, transposed, has no row.
    """
    counts = ledger(shape)
    whole = total(shape)
    return [
        {
            "name": category,
            "group": group,
            "role": _ROLES[category],
            "tensors": [str(tensors) for tensors in tensors_of(shape)[category]],
            "parameters": counts[category],
            "share": counts[category] / whole,
        }
        for group, categories in _GROUPS.items()
        for category in categories
        if counts[category]
    ]
