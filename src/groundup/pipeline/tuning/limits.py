"""The distance from the reference at which a run that learns from its own answers ends."""

from collections.abc import Callable
from dataclasses import dataclass, field

from groundup.pipeline.tuning.training import Length
from groundup.recipe_stages import PolicyRecipe, RolloutRecipe
from groundup.train.agreement import of_first
from groundup.train.progress import Progress
from groundup.tune.rounds import Rounds


def until_too_far(length: Length, settings: RolloutRecipe, rounds: Rounds) -> Length:
    """The same length, but no further than to a round whose KL divergence is beyond the limit, if there is one."""
    limit = _limit(settings)
    if limit is None:
        return length
    return _UntilTooFar(length.steps, length.seconds, too_far=lambda step: rounds.at(step)["kl"] > limit)


def note_of(settings: RolloutRecipe, rounds: Rounds) -> str | None:
    """Why the run ended before its time, if it did."""
    limit, newest = _limit(settings), rounds.newest
    if limit is None or newest["kl"] <= limit:
        return None
    return (
        f"ended in round {newest['round'] + 1}, whose answers were {newest['kl']:.2f} nats from the reference, "
        f"beyond kl_limit={limit:g}: nothing was learnt from them"
    )


def _limit(settings: RolloutRecipe) -> float | None:
    return settings.kl_limit if isinstance(settings, PolicyRecipe) else None


@dataclass(frozen=True)
class _UntilTooFar(Length):
    too_far: Callable[[int], bool] = field(kw_only=True)

    def progress(self, spent: float) -> Progress:
        return _Watched(super().progress(spent), self.too_far)


@dataclass(frozen=True)
class _Watched:
    progress: Progress
    too_far: Callable[[int], bool]

    def fraction(self, step: int) -> float:
        return self.progress.fraction(step)

    def finished(self, step: int) -> bool:
        """Before a new round its answers are written: in all processes, by the clock of the first, or in none."""
        return bool(of_first(self.progress.finished(step))) or self.too_far(step)
