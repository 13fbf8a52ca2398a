"""Early stopping: a run ends when the held-out loss no longer falls, and keeps the model that had the lowest.

Prechelt 1998, "Early Stopping - But When?"; with patience, as in algorithm 7.1 of Goodfellow et al. 2016, "Deep
Learning". The best model is a checkpoint that is not deleted while it is the best, so that it outlives a crash.
Its loss on the held-out text is a little too good a figure: that text has chosen the model.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Best:
    """The lowest held-out loss so far, after which step it was, and how many validations came since.

    Before the first validation the step is 0.
    """

    step: int = 0
    loss: float = 0.0
    stale: int = 0

    def after(self, step: int, loss: float) -> Self:
        """With the validation after this step too; of equal ones the first counts."""
        if not self.step or loss < self.loss:
            return type(self)(step, loss)
        return type(self)(self.step, self.loss, self.stale + 1)
