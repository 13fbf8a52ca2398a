"""What a rater says of the answers to a question."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Verdict = Literal["better", "tie", "bad", "ratings", "edit"]
_Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
"""What SQLite can store."""

VERDICTS: Mapping[str, frozenset[Verdict]] = {
    "choice": frozenset({"better", "tie", "bad", "edit"}),
    "rating": frozenset({"ratings", "edit"}),
}
"""What can be said, by what is asked for."""


class Judgement(BaseModel):
    """One judgement, as the page sends it; answers are named by their number.

    `better`: `answer` is the best of them; `tie`: none is better; `bad`: none is good; `ratings`: of each answer 1
    to 5; `edit`: `answer` was rewritten as `text`, which is better than it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(min_length=8, max_length=64)]
    """Made by the page, so that a judgement that is sent twice is stored once."""
    rater: Rater
    question: _Whole
    verdict: Verdict
    answer: int | None = None
    ratings: list[Annotated[int, Field(ge=1, le=5)]] | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=100_000)] | None = None
    shown: list[int]
    """The answers from left to right, or from top to bottom."""
    milliseconds: _Whole
    """From when they were shown to when they were judged."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        said = (self.answer is not None, self.ratings is not None, self.text is not None)
        needed = {"better": (True, False, False), "ratings": (False, True, False), "edit": (True, False, True)}
        if said != needed.get(self.verdict, (False, False, False)):
            raise ValueError(f"a judgement '{self.verdict}' has other parts than its own")
        if sorted(self.shown) != list(range(len(self.shown))) or len(self.shown) < 2:
            raise ValueError(f"shown {self.shown} does not name each answer once")
        if self.answer is not None and self.answer not in self.shown:
            raise ValueError(f"answer {self.answer} was not shown")
        if self.ratings is not None and len(self.ratings) != len(self.shown):
            raise ValueError(f"{len(self.ratings)} ratings for {len(self.shown)} answers")
        return self
