"""The exponential moving average of the weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

The average of late steps is often a better model than the last of them, as after a lower learning rate.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from groundup.parallel.divided import is_divided, local


class WeightAverage:
    """The average over its steps of those of a model's weights that are trained, in float32.

    After steps 1 to t with weights w: sum of decay^(t - s) w_s over the sum of decay^(t - s). This is the usual
    a <- decay a + (1 - decay) w from zero, corrected for its start (Kingma and Ba 2015, arXiv:1412.6980): the
    correction is in the step's share, so that the average itself can be used at any time.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._averages = {
            name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        share = (1.0 - self.decay) / (1.0 - self.decay**step)
        weights = [local(weight.detach()).float() for weight in self._weights.values()]
        torch._foreach_lerp_(_locals(self._averages), weights, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average as its weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def adopt(self) -> None:
        """Let the model have the average as its weights for good."""
        torch._foreach_copy_(_locals(self._weights), _locals(self._averages))

    def tensors(self) -> dict[str, Tensor]:
        """The average by the names of the weights, to be saved."""
        return self._averages

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take what was saved; RuntimeError where it does not fit the model's tensors."""
        differing = _shapes(tensors).items() ^ _shapes(self._averages).items()
        if differing:
            raise RuntimeError(f"the average of {min(differing)[0]} does not fit")
        for name, average in self._averages.items():
            average.copy_(tensors[name])

    def _swap(self) -> None:
        """Exchange the memory that holds them; of what is divided over devices, the contents of this part."""
        for name, weight in self._weights.items():
            if is_divided(weight):
                own, average = local(weight.detach()), local(self._averages[name])
                kept = own.clone()
                own.copy_(average)
                average.copy_(kept)
            else:
                weight.data, self._averages[name] = self._averages[name], weight.data


def _locals(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [local(tensor.detach()) for tensor in tensors.values()]


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
