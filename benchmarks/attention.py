"""The fused attention kernel against the plain formula on this CPU, forward and backward, by shape.

    OMP_NUM_THREADS=2 python benchmarks/attention.py

Prints milliseconds (median of 15) in bfloat16 and the ratio; `groundup.model.dot_product` chooses by it.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.model.dot_product import _explicit

_SHAPES = [(8, 6, 128, 32), (8, 3, 128, 64), (16, 4, 256, 64), (8, 6, 512, 64), (4, 6, 1024, 64)]


def milliseconds(function: Callable[[Tensor, Tensor, Tensor], Tensor], *parts: Tensor) -> float:
    times = []
    for _ in range(15):
        before = time.perf_counter()
        function(*parts).sum().backward()
        times.append(time.perf_counter() - before)
    return 1000 * sorted(times)[7]


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def main() -> None:
    print("batch heads length width   fused ms  explicit ms  ratio")
    for shape in _SHAPES:
        parts = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
        slow, fast = milliseconds(fused, *parts), milliseconds(_explicit, *parts)
        print(("{:5d} {:5d} {:6d} {:5d}" + "{:11.2f} {:12.2f} {:6.2f}").format(*shape, slow, fast, slow / fast))


if __name__ == "__main__":
    main()
