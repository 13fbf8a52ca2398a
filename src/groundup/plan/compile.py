"""Whether compiling the model pays within a budget: what it costs now against what it saves until the end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Compilation:
    """What compiling takes and gives: `seconds` before the first step, `saving` as a share of each step's time."""

    seconds: float
    saving: float

    def pays(self, seconds: float) -> bool:
        """Whether a run of `seconds` in all takes more steps with it than without."""
        return self.saving * seconds > self.seconds


# Before there is a measurement of this block on this machine: nearly the dearest, and about the middle saving, of
# those in benchmarks/LOG.md.
UNKNOWN = Compilation(seconds=15.0, saving=0.12)
