"""What every model that reads one text and writes another has in common, be it a Transformer or recurrent.

The objective `translation`, beam search and `groundup translate` ask for nothing else.
"""

from typing import Any, TypeAlias

from torch import Tensor

from groundup.model.base import TextModel

# What a model keeps of the sources it has read, and what it keeps of the targets begun: each model's own, of
# whatever tensors it needs.
Memory: TypeAlias = Any
State: TypeAlias = Any


class Translator(TextModel):
    """A model of p(target | source), one target token after the other.

    Source and target share one vocabulary (V). `keep_BS` (bool) is false at the padding behind a source, which
    must not change anything; None: there is none. A target (B, T) begins with a token that stands for its
    beginning; logits at position t are those of token t + 1 and depend on the source and the tokens up to t.
    """

    frame = "alone"

    def encode(self, source_BS: Tensor, keep_BS: Tensor | None = None) -> Memory:
        """What the encoder makes of the sources (B, S) int64."""
        raise NotImplementedError

    def forward(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """As `logits`."""
        return self.logits(source_BS, keep_BS, target_BT)

    def logits(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        """Logits (B, T, V) of what follows each target token when the true ones are given (teacher forcing)."""
        raise NotImplementedError

    def start(self, memory: Memory, beams: int = 1) -> State:
        """The state before the first target token, of N = B * beams targets.

        Those of one source stand next to each other: target n is of source n // beams.
        """
        raise NotImplementedError

    def step(self, state: State, ids_N: Tensor) -> tuple[Tensor, State]:
        """Read one more token of each target: logits (N, V) of the next, as `logits` gives, and the new state.

        The old state may be used up by it.
        """
        raise NotImplementedError

    def reorder(self, state: State, index_N: Tensor) -> State:
        """The state in which target n goes on from what target `index_N[n]` was.

        Both are of the same source, so that what belongs to a source can stay; the old state may be used up.
        """
        raise NotImplementedError
