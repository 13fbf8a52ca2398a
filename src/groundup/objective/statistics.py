"""Figures of a loss beside the loss itself, gathered while it is computed and read whenever somebody asks."""

from collections import defaultdict

from torch import Tensor


class Statistics:
    """Means and maxima by name, over all that was given since they were last taken.

    An objective is given one and adds to it in every forward pass of training; each process has its own.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._greatest: dict[str, float] = {}

    def add(self, name: str, values: Tensor, where: Tensor | None = None) -> None:
        """Values that count towards the mean of `name`: all, or those where a mask of their shape is true."""
        values = values.detach() if where is None else values.detach()[where]
        self._sums[name] += float(values.double().sum())
        self._counts[name] += values.numel()

    def add_greatest(self, name: str, values: Tensor, where: Tensor) -> None:
        """Values of which `name` is to be the greatest, where the mask is true."""
        if where.any():
            greatest = float(values.detach()[where].max())
            self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def take(self) -> dict[str, float]:
        """Each figure of which there was any value; from here on they are counted anew."""
        means = {name: self._sums[name] / count for name, count in self._counts.items() if count}
        taken = means | self._greatest
        self._sums.clear()
        self._counts.clear()
        self._greatest.clear()
        return taken
