"""The bigram model of Kneser and Ney 1995, interpolated (Chen and Goodman 1999): what counting alone reaches."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bigram:
    """P(w | v) = max(c(v w) - d, 0) / c(v) + d n(v) / c(v) P(w), where n(v) counts the words seen behind v.

    P(w) is made of the number of words before w in the same way, discounted by d and mixed with the uniform
    distribution; d = n1 / (n1 + 2 n2), of the bigrams that were seen once and twice.
    """

    vocabulary_size: int
    pairs: npt.NDArray[np.int64]
    counts: Values
    after: Values
    kinds_after: Values
    lower: Values
    discount: float

    @classmethod
    def learn(cls, ids_N: Ids, vocabulary_size: int) -> Self:
        """From a stream of ids."""
        pairs, counts = np.unique(_pairs(ids_N[:-1], ids_N[1:], vocabulary_size), return_counts=True)
        first, second = np.divmod(pairs, vocabulary_size)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5
        kinds_before = np.bincount(second, minlength=vocabulary_size).astype(np.float64)
        seen = kinds_before > 0
        spare = discount * seen.sum() / len(pairs)
        lower = np.maximum(kinds_before - discount, 0) / len(pairs) + spare / vocabulary_size
        return cls(
            vocabulary_size,
            pairs,
            counts.astype(np.float64),
            np.bincount(first, counts, vocabulary_size).astype(np.float64),
            np.bincount(first, minlength=vocabulary_size).astype(np.float64),
            lower,
            discount,
        )

    def nats(self, before_N: Ids, ids_N: Ids) -> Values:
        """The surprise at each id behind the one before it, (N,)."""
        wanted = _pairs(before_N, ids_N, self.vocabulary_size)
        places = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        counts = np.where(self.pairs[places] == wanted, self.counts[places], 0.0)
        total = self.after[before_N]
        known = np.maximum(total, 1.0)
        own = np.maximum(counts - self.discount, 0) / known
        rest = np.where(total > 0, self.discount * self.kinds_after[before_N] / known, 1.0)
        found: Values = -np.log(own + rest * self.lower[ids_N])
        return found


def _pairs(before_N: Ids, ids_N: Ids, vocabulary_size: int) -> npt.NDArray[np.int64]:
    pairs: npt.NDArray[np.int64] = before_N.astype(np.int64) * vocabulary_size + ids_N
    return pairs
