"""Fine-tuning: a pretrained model learns to tell classes of text apart, wholly or in part."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from groundup.data.labelled import LabelledRows, encode_texts
from groundup.errors import UserError
from groundup.evaluate.classification import ClassificationScores, classification_scores
from groundup.files import folder_atomically, write_atomically, write_json
from groundup.model.base import TextModel
from groundup.model.classifier import Body, Classifier, Pooling
from groundup.model.folder import load_any, save_weights
from groundup.model.tensor_file import save_tensors
from groundup.objective import Setting
from groundup.objective.labels import LabelledBatch, collate, labels
from groundup.recipe import TrainRecipe
from groundup.seeds import derive
from groundup.tokenizer.load import AnyTokenizer
from groundup.tune.epochs import Epoch, OnProgress, Task, answers, run_epochs
from groundup.tune.features import text_vectors
from groundup.tune.freezing import freeze

_ABOUT, _HEAD = "classifier.json", "head.safetensors"


@dataclass(frozen=True)
class FinetuneSettings:
    """How a classifier is trained.

    Attributes:
        lr: the peak learning rate of AdamW; None takes `default_lr`.
        patience: stop after so many epochs in a row without a better held-out accuracy, and keep the weights of
            the best one; None trains to the end, and the held-out examples have no say in anything.
        dropout: of the head.
        seed: of dropout.
    """

    epochs: int = 5
    lr: float | None = None
    batch_size: int = 32
    weight_decay: float = 0.01
    patience: int | None = None
    pooling: Pooling = "mean"
    dropout: float = 0.1
    seed: int = 0
    device: str = "cpu"

    def recipe(self, num_rows: int, lr: float) -> TrainRecipe:
        """How the trainer goes about so many rows: AdamW, a short warm-up, and down to nothing."""
        return TrainRecipe(
            batch_size=min(self.batch_size, num_rows),
            lr=lr,
            optimizer="adamw",
            weight_decay=self.weight_decay,
            beta2=0.999,
            warmup=0.1,
            final_lr=0.0,
        )


@dataclass(frozen=True)
class Finetuned:
    """A trained classifier, in evaluation mode, and what is to be said of it.

    `frozen` names the parts of the body that stayed; `signal` is what stopped it before its time, if anything did.
    """

    classifier: Classifier
    scores: ClassificationScores
    history: list[Epoch]
    lr: float
    frozen: list[str]
    trained_parameters: int
    seconds: float
    signal: int | None = None


def finetune(
    body: Body,
    train: LabelledRows,
    valid: LabelledRows,
    num_classes: int,
    mode: str = "none",
    settings: FinetuneSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Finetuned:
    """Train a head on `body`, and of the body what `mode` (see `freezing`) does not keep; `body` itself changes.

    Rows are [label, ids...], with ids as of `encode_texts`, or [label, pixels...]. Where all of the body is
    frozen, what it makes of them is computed once.

    Raises:
        UserError: the mode does not fit the model, or the loss is not finite any more.
    """
    started, chosen = time.monotonic(), settings or FinetuneSettings()
    frozen = freeze(body, mode)
    classifier = Classifier(body, num_classes, chosen.pooling, chosen.dropout).to(chosen.device)
    task = Task(classifier, labels(Setting()), train, valid, chosen.device, derive(chosen.seed, "dropout"))
    if mode == "all":
        task = _on_vectors(task, classifier, train, valid)
    lr = chosen.lr or default_lr(body, mode)
    trained = run_epochs(task, chosen.recipe(train.num_rows, lr), chosen.epochs, chosen.patience, on_progress)
    return Finetuned(
        classifier=classifier.eval(),
        scores=classification_scores(valid.labels, answers(task), num_classes),
        history=trained.history,
        lr=lr,
        frozen=frozen,
        trained_parameters=trained.trained_parameters,
        seconds=time.monotonic() - started,
        signal=trained.signal,
    )


def default_lr(body: Body, mode: str) -> float:
    """A rate that does for AdamW: a head alone can take long steps, a body shorter ones the wider it is."""
    return 1e-2 if mode == "all" else min(1e-3, 0.064 / body.shape.width)


def _on_vectors(task: Task, classifier: Classifier, train: LabelledRows, valid: LabelledRows) -> Task:
    """The same for the head alone: rows say which of the texts' vectors is meant."""
    tables = [text_vectors(classifier.body, part.values, classifier.pooling) for part in (train, valid)]
    vectors_NE = torch.from_numpy(np.concatenate(tables))
    train_places, valid_places = np.split(np.arange(len(vectors_NE))[:, None], [train.num_rows])

    def look_up(windows: npt.NDArray[np.int64], first: int = 0) -> LabelledBatch:
        batch = collate(windows, first)
        return replace(batch, inputs=vectors_NE[batch.inputs[:, 0]])

    return replace(
        task,
        model=classifier.head,
        objective=replace(task.objective, collate=look_up),
        train=train.with_values(train_places),
        valid=valid.with_values(valid_places),
    )


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier, in evaluation mode, its tokenizer, and the names of its classes."""

    model: Classifier
    tokenizer: AnyTokenizer
    labels: list[str]

    @torch.no_grad()
    def classify(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text; what is longer than the model's context is cut off."""
        body = self.model.body
        assert isinstance(body, TextModel), "it came with a tokenizer"
        ids_NT = encode_texts(texts, self.tokenizer, body.shape.context, body.frame)
        logits_NC = self.model(torch.from_numpy(ids_NT.astype(np.int64)))
        return [self.labels[place] for place in logits_NC.argmax(-1).tolist()]


def save_classifier(
    folder: Path, classifier: Classifier, tokenizer: AnyTokenizer | None, names: Sequence[str]
) -> None:
    """Write the body as a model folder, which others read too, and beside it the head and the labels.

    Of images there is no tokenizer.
    """
    about = {"labels": list(names), "pooling": classifier.pooling}
    card = f"# A classifier of texts\n\nLabels: {', '.join(names)}. Body: {classifier.shape.family}.\n"
    with folder_atomically(folder) as temporary:
        save_weights(temporary, classifier.body, tokenizer.special_tokens if tokenizer else {})
        if tokenizer is not None:
            tokenizer.save(temporary, model_max_length=classifier.shape.context)
        head = {name: value.detach().cpu() for name, value in classifier.head.state_dict().items()}
        save_tensors(head, temporary / _HEAD)
        write_json(temporary / _ABOUT, about)
        write_atomically(temporary / "README.md", card)


def load_classifier(folder: Path | str) -> LoadedClassifier:
    """Read what `save_classifier` wrote; UserError names what is missing or damaged."""
    folder = Path(folder)
    if not (folder / _ABOUT).is_file():
        raise UserError(f"{folder} holds no classifier (no {_ABOUT}); `groundup finetune ... --out` makes one")
    loaded = load_any(folder)
    try:
        about = json.loads((folder / _ABOUT).read_text("utf-8"))
        classifier = Classifier(loaded.model, len(about["labels"]), about["pooling"])
        classifier.head.load_state_dict(load_file(folder / _HEAD))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: the classifier is damaged ({reason}); fine-tune again") from None
    return LoadedClassifier(classifier.eval(), loaded.tokenizer, about["labels"])
