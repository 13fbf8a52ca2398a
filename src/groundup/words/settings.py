"""What decides the word vectors, with the defaults of the published programs.

Word2vec: Mikolov and others 2013, word2vec.c; GloVe: Pennington, Socher and Manning 2014, glove.c and cooccur.c.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from groundup.data.text import Split


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: int = Field(default=100, ge=1, le=65_536)
    window: int = Field(default=5, ge=1, le=1000)
    epochs: int = Field(default=5, ge=1)
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


class Word2VecSettings(_Settings):
    """Skip-gram or CBOW, with negative sampling or hierarchical softmax."""

    model: Literal["skipgram", "cbow"] = "cbow"
    negative: int = Field(default=5, ge=1, le=1000, description="words of noise for each prediction")
    hierarchical_softmax: bool = Field(default=False, description="a tree in the place of noise")
    sample: float = Field(default=1e-3, ge=0, description="words more frequent than this are thinned out; 0: none")
    noise_power: float = Field(default=0.75, description="noise is drawn as count ** noise_power")
    cbow_mean: bool = Field(default=True, description="CBOW averages the context; otherwise it adds it up")
    lr: float | None = Field(default=None, gt=0, description="at the start; published: 0.025, 0.05 for CBOW")

    @property
    def first_lr(self) -> float:
        """The learning rate at the start; it falls linearly to a ten-thousandth of it."""
        return self.lr or (0.05 if self.model == "cbow" else 0.025)


class GloveSettings(_Settings):
    """Weighted least squares on the logarithms of co-occurrence counts."""

    model: Literal["glove"] = "glove"
    dimension: int = Field(default=50, ge=1, le=65_536)
    window: int = Field(default=15, ge=1, le=1000)
    epochs: int = Field(default=25, ge=1)
    most: float = Field(default=100.0, gt=0, description="x_max: from this count on, the weight is 1")
    power: float = Field(default=0.75, gt=0, description="below it the weight is (count / most) ** power")
    lr: float = Field(default=0.05, gt=0)


Settings = Word2VecSettings | GloveSettings


class TextSettings(BaseModel):
    """Which words of which text are learnt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: list[str]
    field: str = "text"
    split: Split = "none"
    pattern: str = Field(default="words", description="words, whitespace or a regular expression")
    lower: bool = True
    min_count: int = Field(default=5, ge=1)
