"""The price of leaving the reference: fixed, or steered towards a KL divergence that is wanted."""

from typing import Self

from groundup.errors import UserError
from groundup.recipe_stages import PolicyRecipe

# By so much of itself beta moves at most in one horizon.
_MOST_ERROR = 0.2


class KlControl:
    """`beta`, the price of a nat, which is all of its state.

    With a `target`, in nats an answer, it is steered there (Ziegler et al. 2019, arXiv:1909.08593, section 2.2):
    after n answers beta is multiplied by 1 + e n / horizon, where e is by what share of the target the divergence
    was above it, at most 0.2 either way.
    """

    def __init__(self, beta: float, target: float | None = None, horizon: float = 10_000.0):
        self.beta, self._target, self._horizon = beta, target, horizon

    @classmethod
    def of(cls, settings: PolicyRecipe) -> Self:
        """As the recipe says; where it says no horizon, beta moves by up to a twentieth in a round.

        UserError for a target without a price to multiply.
        """
        if settings.kl_target is not None and not settings.kl:
            raise UserError(
                f"kl=0 cannot be steered towards kl_target={settings.kl_target:g}, since it is multiplied; give "
                "--kl to start from, such as 0.05, or leave --kl-target out"
            )
        return cls(settings.kl, settings.kl_target, settings.kl_horizon or 4.0 * settings.answers)

    def update(self, kl: float, answers: int) -> None:
        """Told the mean KL divergence of so many answers, in nats an answer."""
        if self._target is None:
            return
        error = min(max(kl / self._target - 1.0, -_MOST_ERROR), _MOST_ERROR)
        self.beta *= 1.0 + error * answers / self._horizon
