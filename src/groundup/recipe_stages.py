"""The stages behind pretraining, each a section of the recipe: fine-tuning, and learning from preferences.

A field that is None is filled in when the stage begins, and stands in the recipe of its run.
"""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Stage: TypeAlias = Literal["pretrain", "sft", "reward", "dpo", "ppo", "grpo", "reject"]


class Section(BaseModel):
    """A part of the recipe: no field but those that it knows, and each of its type."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class TuneRecipe(Section):
    """What every stage behind pretraining has: a model, data, and how long and how fast it learns."""

    model: str | None = Field(default=None, description="the run or model folder that the stage starts from")
    data: list[str] = Field(default=[], description="files, folders, globs, hf:NAME or demo:NAME")
    validation: list[str] = Field(default=[], description="held-out data of your own, instead of a split")
    holdout: float = Field(default=0.05, gt=0, le=0.5, description="the share of the data never trained on")
    limit: int | None = Field(default=None, ge=2, description="read at most so many examples")
    template: str | None = Field(
        default=None, description="chatml, llama3, ... or a Jinja file; default: the model's own, else chatml"
    )
    context: int | None = Field(default=None, ge=8, description="most tokens of an example; default: the model's")
    budget: str | None = Field(default=None, description="5m, 200steps or 1Mtok, instead of epochs or rounds")
    batch_size: int = Field(default=16, ge=1, description="examples, or packed windows, of an optimizer step")
    micro_batch: int | None = Field(default=None, ge=1, description="of which so many in a forward pass")
    optimizer: str = Field(default="adamw")
    lr: float | None = Field(default=None, gt=0, description="the peak learning rate; default: by width and stage")
    schedule: Literal["linear", "cosine", "trapezoid", "wsd", "constant"] = Field(default="linear")
    warmup: float = Field(default=0.05, ge=0, lt=1)
    final_lr: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0, description="of AdamW")
    patience: int | None = Field(default=None, ge=1, description="end after so many validations without a gain")
    lora: int = Field(default=0, ge=0, description="rank of low-rank adapters, which alone are trained")
    lora_alpha: float | None = Field(default=None, gt=0, description="adapters count alpha/rank; default: 2 rank")
    lora_targets: Literal["attention", "all"] = Field(default="all", description="which matrices get adapters")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_rows: Literal["new", "all"] = Field(
        default="new",
        description="whose rows of the embedding learn beside adapters: the template's new tokens, or all",
    )
    freeze: str = Field(default="none", description="what keeps its weights: none, embeddings or first:N (blocks)")


class LessonRecipe(TuneRecipe):
    """Stages that learn from rows of data, which they read again and again."""

    epochs: float = Field(default=3.0, gt=0, description="how often the data is read, where there is no budget")


class SftRecipe(LessonRecipe):
    """Supervised fine-tuning: the loss of the assistant's turns (Ouyang et al. 2022, arXiv:2203.02155)."""

    packing: bool = Field(default=True, description="several conversations in a window, none sees another")


class RewardRecipe(LessonRecipe):
    """A model of which answer people prefer (Stiennon et al. 2020, arXiv:2009.01325)."""

    epochs: float = Field(default=1.0, gt=0)


class DpoRecipe(LessonRecipe):
    """Preferences learnt directly, without a reward model (Rafailov et al. 2023, arXiv:2305.18290)."""

    epochs: float = Field(default=1.0, gt=0)
    loss: str = Field(default="sigmoid", description="sigmoid, ipo, kto or simpo")
    beta: float | None = Field(
        default=None, gt=0, description="how dear it is to leave the reference; default: 0.1, of simpo 2"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="the share of pairs taken for mistaken")
    simpo_margin: float = Field(default=1.0, ge=0, description="SimPO: gamma, by how much chosen is to be ahead")
    desirable_weight: float = Field(default=1.0, gt=0, description="KTO: weight of what is desirable")
    undesirable_weight: float = Field(default=1.0, gt=0, description="KTO: weight of what is not")


class RolloutRecipe(TuneRecipe):
    """Stages that learn from answers of their own: what is asked, how they answer, and who judges."""

    holdout: float = Field(default=0.1, gt=0, le=0.5)
    reward: str | None = Field(default=None, description="a reward model, FILE.py[:FUNCTION] or a program")
    tokens: int = Field(default=64, ge=1, description="most tokens of an answer")
    temperature: float = Field(default=1.0, gt=0, description="of the answers, and of every log-probability")
    rounds: int = Field(default=50, ge=1, description="how often answers are written, where there is no budget")
    answers: int = Field(default=64, ge=1, description="of a round")
    missing_end: float = Field(
        default=1.0, ge=0, description="what an answer that does not end loses of its reward"
    )


class PolicyRecipe(RolloutRecipe):
    """What PPO and GRPO share: how far an update may go from the policy that wrote the answers."""

    updates: int = Field(default=4, ge=1, description="passes over the answers of a round")
    batch_size: int = Field(default=16, ge=1, description="answers of an optimizer step")
    clip_ratio: float = Field(default=0.2, gt=0, description="how far from 1 the ratio of probabilities counts")
    clip_ratio_high: float | None = Field(default=None, gt=0, description="upwards, where it differs (DAPO)")
    kl: float = Field(default=0.05, ge=0, description="beta, the price of a nat away from the reference")
    kl_target: float | None = Field(
        default=None, gt=0, description="the nats an answer that beta is steered towards; none: beta stays"
    )
    kl_horizon: float | None = Field(
        default=None, gt=0, description="answers in which beta is steered; default: those of four rounds"
    )
    kl_limit: float | None = Field(
        default=None, gt=0, description="end before answers more nats than this away are learnt from"
    )
    schedule: Literal["linear", "cosine", "trapezoid", "wsd", "constant"] = Field(default="constant")
    epsilon: float = Field(default=1e-5, gt=0, description="of AdamW: advantages are small at first")


class PpoRecipe(PolicyRecipe):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347; Ziegler et al. 2019, 1909.08593)."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    clip_value: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.1, ge=0)
    share_trunk: bool = Field(
        default=True, description="the value head stands on the policy; else on a model of its own"
    )
    whiten_rewards: bool = Field(default=False, description="divide rewards by their deviation in the round")


class GrpoRecipe(PolicyRecipe):
    """Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300)."""

    group: int = Field(default=8, ge=2, description="answers to the same question")
    updates: int = Field(default=1, ge=1)
    advantages: str = Field(default="grpo", description="grpo, dr-grpo or rloo: how a group's rewards compare")
    loss: str = Field(default="grpo", description="grpo, dapo or dr-grpo: how tokens are averaged")


class RejectRecipe(RolloutRecipe):
    """Expert iteration: sample, keep the best, imitate (Anthony et al. 2017, arXiv:1705.08439)."""

    rounds: int = Field(default=2, ge=1)
    answers: int = Field(default=256, ge=1)
    best_of: int = Field(default=8, ge=1, description="answers to a question, of which the best is kept")
    epochs: float = Field(default=2.0, gt=0, description="passes over what was kept, in each round")
