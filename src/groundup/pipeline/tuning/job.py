"""A run of a stage behind pretraining, with what every such stage needs: a model to start from, a tokenizer."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.folder import model_folder
from groundup.model.lora import add_adapters
from groundup.model.vocabulary import grow_vocabulary, train_rows
from groundup.parallel.processes import Processes, share
from groundup.pipeline.display import Display
from groundup.pipeline.stored_models import open_model
from groundup.plan.hardware import Precision
from groundup.recipe import Recipe, TrainRecipe
from groundup.recipe_stages import TuneRecipe
from groundup.run import Run
from groundup.seeds import derive
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from groundup.tune.freezing import freeze

# Of the rate for supervised fine-tuning: a pair or a reward says less than the words of an answer. PPO's twentieth
# is Llama 2's (Touvron et al. 2023, arXiv:2307.09288); at a half noise alone drove a policy 6 nats away in 12
# rounds. GRPO takes fewer steps with the same answers.
_RATE = {"sft": 1.0, "reject": 0.5, "reward": 0.25, "dpo": 0.05, "ppo": 0.05, "grpo": 0.1}
# Of AdamW's: Muon's steps are spread over all directions of a matrix. Those of an adapter are few.
_WHOLE_MUON_RATE = 3.0

Settings = TypeVar("Settings", bound=TuneRecipe)


@dataclass(frozen=True)
class Start:
    """What a stage starts from: a decoder, a tokenizer with a chat template, and the folder where they were.

    `new_ids` are those of the tokens that the template brought, of which the model knew nothing.
    """

    model: Decoder
    tokenizer: Tokenizer
    folder: Path
    new_ids: list[int]


@dataclass(frozen=True)
class TuneJob:
    """A stage's run."""

    run: Run
    recipe: Recipe
    display: Display
    device: str
    precision: Precision
    processes: Processes | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes: the log, metrics, the model."""
        return self.processes is None or self.processes.rank == 0

    def of_first(self, value: Any) -> Any:
        """What the first process has for it, in all of them: they must all ask."""
        return value if self.processes is None else share(value)

    @property
    def settings(self) -> TuneRecipe:
        """The recipe's section of this stage."""
        section: TuneRecipe = getattr(self.recipe, self.recipe.stage)
        return section

    def settings_of(self, kind: type[Settings]) -> Settings:
        """The same, as the section of a stage that is known."""
        assert isinstance(self.settings, kind)
        return self.settings

    @cached_property
    def start(self) -> Start:
        """The model as it was stored, with rows for the template's tokens; nothing is frozen yet."""
        return open_start(self.settings)

    def seed(self, purpose: str) -> int:
        """A seed of this run and stage for one purpose."""
        return derive(self.recipe.seed, f"{self.recipe.stage} {purpose}")

    @property
    def context(self) -> int:
        """The most tokens of an example."""
        most = self.start.model.shape.context
        return min(self.settings.context or most, most)

    @property
    def lr(self) -> float:
        """The peak learning rate: as given, or by the model's width, the stage, and whether adapters learn."""
        if self.settings.lr is not None:
            return self.settings.lr
        width = self.start.model.shape.width
        rate = _adapters_rate(width) if self.settings.lora else _whole_rate(width)
        if self.settings.optimizer == "muon" and not self.settings.lora:
            rate *= _WHOLE_MUON_RATE
        return rate * _RATE[self.recipe.stage]

    def train_recipe(self, num_rows: int) -> TrainRecipe:
        """How the trainer goes about it: the stage's numbers, and what `train` says of this machine."""
        settings = self.settings
        batch_size = min(settings.batch_size, num_rows)
        return self.recipe.train.model_copy(
            update={
                "batch_size": batch_size,
                "micro_batch": settings.micro_batch and math.gcd(settings.micro_batch, batch_size),
                "optimizer": settings.optimizer,
                "lr": self.lr,
                "schedule": settings.schedule,
                "warmup": settings.warmup,
                "final_lr": settings.final_lr,
                "weight_decay": settings.weight_decay,
                "clip": settings.clip,
                "beta2": settings.beta2,
                "epsilon": settings.epsilon,
                "patience": settings.patience,
                "batch_warmup": 0.0,
            }
        )

    def arranged(self, model: Decoder) -> Decoder:
        """The same model, with what shall stay frozen, and adapters where they shall learn."""
        settings = self.settings
        if not settings.lora:
            self._freeze(model)
            return model
        if settings.freeze != "none":
            raise UserError(f"--freeze {settings.freeze} and adapters exclude each other; leave one out")
        model_folder(self.start.folder)  # refuses a checkpoint: adapters belong to a model that stays
        alpha = settings.lora_alpha or 2.0 * settings.lora
        add_adapters(
            model, settings.lora, alpha, settings.lora_targets, settings.lora_dropout, self.seed("adapters")
        )
        every = range(model.shape.vocabulary_size)
        train_rows(model, every if settings.lora_rows == "all" else self.start.new_ids)
        return model

    def _freeze(self, model: Decoder) -> None:
        """But not the tables in which tokens are that the model does not know yet."""
        if self.settings.freeze == "all":
            raise UserError("--freeze all leaves nothing to train; choose embeddings or first:N")
        names = freeze(model, self.settings.freeze)
        learnt = {"embedding", "unembedding"} if self.start.new_ids else set()
        for name in learnt & {*names}:
            model.get_submodule(name).requires_grad_(True)
            self.display.warn(f"the {name} is trained too: the template's tokens are new to it")


def _whole_rate(width: int) -> float:
    """For all weights: 2e-3 at the small widths of a laptop, where it was measured, 2e-5 at Llama 2's 4,096."""
    return min(2e-3, 5.3 / width**1.5)


def _adapters_rate(width: int) -> float:
    """Adapters start at nothing and are small: they take, and need, more, the wider the model the more so."""
    return min(5e-3, 0.64 / width)


def open_start(settings: TuneRecipe) -> Start:
    """Read the model that a section names; UserError where there is none, or none that writes."""
    if settings.model is None:
        raise UserError("no model to start from; name a run or a model folder, such as runs/default-1")
    folder = Path(settings.model)
    stored = open_model(folder)
    if not isinstance(stored.model, Decoder):
        raise UserError(
            f"{folder} holds a {stored.model.shape.family}, which does not write token by token; "
            "`groundup finetune` teaches it classes or translation"
        )
    if not isinstance(stored.tokenizer, Tokenizer):
        raise UserError(f"the tokenizer of {folder} is not byte-level BPE, which this stage needs")
    tokenizer = with_template(stored.tokenizer, settings.template)
    known, needed = stored.model.shape.vocabulary_size, tokenizer.vocabulary_size
    if needed > known:
        grow_vocabulary(stored.model, needed)
    new_tokens = tokenizer.special_tokens.keys() - stored.tokenizer.special_tokens.keys()
    new_ids = {*range(known, needed), *(tokenizer.special_tokens[token] for token in new_tokens)}
    return Start(stored.model, tokenizer, folder, sorted(new_ids))
