"""Fine-tuning a model that reads one text and writes another, on pairs of texts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from groundup.data.pairs import Pair, pair_rows
from groundup.errors import UserError
from groundup.model.translator import Translator
from groundup.objective import OBJECTIVES, Setting
from groundup.seeds import derive
from groundup.tokenizer import Tokenizer
from groundup.tune.epochs import Epoch, OnProgress, Task, run_epochs
from groundup.tune.finetune import FinetuneSettings, default_lr
from groundup.tune.freezing import freeze

_LABEL_SMOOTHING = 0.1


@dataclass(frozen=True)
class FinetunedTranslation:
    """What became of a model, which is in evaluation mode."""

    model: Translator
    history: list[Epoch]
    lr: float
    frozen: list[str]
    trained_parameters: int
    skipped: int
    seconds: float
    signal: int | None = None


def freeze_translator(model: Translator, mode: str) -> list[str]:
    """As `freezing.freeze`; UserError also where nothing is left to be learnt."""
    if mode == "all":
        raise UserError("--freeze all leaves a translator nothing to learn; freeze embeddings, first:N or none")
    return freeze(model, mode)


def finetune_translation(
    model: Translator,
    tokenizer: Tokenizer,
    train: Sequence[Pair],
    valid: Sequence[Pair],
    mode: str,
    settings: FinetuneSettings,
    on_progress: OnProgress | None = None,
) -> FinetunedTranslation:
    """Go `settings.epochs` times through the pairs; `model` changes but for what `mode` (see `freezing`) keeps.

    `skipped` pairs were too long for the model's context. UserError where the mode does not fit the model.
    """
    started = time.monotonic()
    frozen = freeze_translator(model, mode)
    setting = Setting(
        shape=model.shape, special=tokenizer.special_tokens, label_smoothing=_LABEL_SMOOTHING, seed=settings.seed
    )
    seed = derive(settings.seed, "order")
    rows, held_out = (pair_rows(pairs, tokenizer, model.shape.context, seed) for pairs in (train, valid))
    lr = settings.lr or default_lr(model, mode)
    task = Task(
        model.to(settings.device),
        OBJECTIVES["translation"](setting),
        rows,
        held_out,
        settings.device,
        derive(settings.seed, "dropout"),
    )
    trained = run_epochs(task, settings.recipe(rows.num_rows, lr), settings.epochs, settings.patience, on_progress)
    return FinetunedTranslation(
        model=model.eval(),
        history=trained.history,
        lr=lr,
        frozen=frozen,
        trained_parameters=trained.trained_parameters,
        skipped=rows.skipped,
        seconds=time.monotonic() - started,
        signal=trained.signal,
    )
