"""A law fitted to runs of one's own, in the place of the planner's own law of small runs."""

from dataclasses import dataclass

from groundup.errors import UserError
from groundup.plan.scaling.fitted import FittedLaw


@dataclass(frozen=True)
class OwnRuns:
    """A fitted law as `groundup.plan.loss.ExpectedLoss`: of the text, tokenizer and context of its runs."""

    fitted: FittedLaw

    def __post_init__(self) -> None:
        if self.fitted.law.unit != "bits per byte":
            raise UserError(
                f"this law predicts {self.fitted.law.unit}; a plan for this machine needs bits per byte, as the "
                "runs of `groundup scaling sweep` have"
            )

    @property
    def relative_error(self) -> float:
        """Of a run as large as the largest that the law was fitted to."""
        known = self.fitted.uncertainty
        return known.quantile * known.noise

    @property
    def origin(self) -> str:
        """Where the law comes from."""
        return self.fitted.law.origin or f"fitted to {self.fitted.num_runs} runs"

    @property
    def formula(self) -> str:
        """In the symbols of `constants`, N and D."""
        return self.fitted.law.formula

    @property
    def constants(self) -> dict[str, float]:
        """By symbol."""
        return dict(zip(("E", "A", "alpha", "B", "beta"), self.fitted.law.constants, strict=True))

    def bits_per_byte(self, parameters: float, tokens: float, compressibility: float | None = None) -> float:
        """The loss on the text of its runs, whatever `compressibility` says."""
        del compressibility
        return self.fitted.law.fresh(parameters, tokens)
