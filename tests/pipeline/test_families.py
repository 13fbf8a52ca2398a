"""Runs of every family from its ready recipe, made short: they learn, stop and go on, and are read again."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from groundup.errors import UserError
from groundup.files import cache_folder
from groundup.model.folder import load_any, load_weights
from groundup.pipeline.build import build, resume
from groundup.pipeline.compare import text_families
from groundup.pipeline.display import Display
from groundup.pipeline.families.evaluate import evaluate_family_run
from groundup.pipeline.finetune import load_text_model
from groundup.recipe import load, recipe_of
from groundup.run import Run, read_rows
from groundup.shape import FAMILIES, family
from groundup.train.progress import StepProgress
from groundup.train.trainer import Interrupted
from tests.cli.support import WORDS

QUIET = Display(Console(quiet=True))
# Enough for the loss to fall below what rates of answers alone give.
_STEPS = {"pert": 180, "bert": 150, "elmo": 40, "cove": 120, "xlnet": 120}
_MARGIN = 0.95
_SMALL = {
    "train.threads": 1, "train.precision": "fp32", "data.holdout_bytes": 8192, "train.validations": 2,
    "tokenizer.vocabulary_size": 400, "model.width": 64, "model.num_heads": 2, "model.num_layers": 2,
    "model.feedforward_width": 128, "train.warmup": 0.05, "train.batch_size": 16, "train.checkpoint_steps": 25,
    "model.context": 32, "train.lr": 1e-2,
}  # fmt: skip
_TEXT_FAMILIES = [
    name for name in text_families() if family(name).examples == "text" and not family(name).is_decoder
]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stretches of one sequence of words: what comes next, what is hidden and what is out of order can be told."""
    path = tmp_path_factory.mktemp("families") / "words.txt"
    generator, order = np.random.default_rng(0), WORDS * 3
    starts, lengths = generator.integers(0, len(WORDS), 6000), generator.integers(4, 12, 6000)
    stretches = (order[start : start + length] for start, length in zip(starts, lengths, strict=True))
    path.write_text(". ".join(" ".join(words) for words in stretches), "utf-8")
    return path


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of few words, and the same words in another spelling."""
    path = tmp_path_factory.mktemp("families") / "pairs.jsonl"
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(3000):
            chosen = [WORDS[place] for place in generator.integers(0, len(WORDS), generator.integers(3, 7))]
            pair = {"left": " ".join(chosen), "right": " ".join(word.upper() for word in chosen)}
            file.write(json.dumps(pair) + "\n")
    return path


def _train(name: str, source: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    fields = {**_SMALL, "budget": f"{_STEPS.get(name, 60)}steps", "data.sources": [str(source)]}
    return build(load(recipe_of(name), fields | changes), folder, QUIET)


@pytest.mark.parametrize("name", _TEXT_FAMILIES)
def test_a_family_of_text_learns_more_than_rates(name: str, text_file: Path, tmp_path: Path) -> None:
    outcome = _train(name, text_file, tmp_path / "run")
    assert outcome["loss"] < _MARGIN * outcome["baseline_loss"]
    run = Run(tmp_path / "run")
    assert run.report_file.is_file() and run.finished
    last = [row for row in read_rows(run.metrics_file) if "val_loss" in row][-1]
    assert math.isfinite(last["val_loss"])
    loaded = load_any(run.folder)
    assert loaded.model.shape.family == name
    again = evaluate_family_run(run.folder, QUIET)
    assert again["loss"] == pytest.approx(outcome["loss"], rel=1e-4)
    assert "bits_per_byte" in outcome or family(name).objective != "causal"


@pytest.mark.parametrize("name", [name for name, traits in FAMILIES.items() if traits.examples == "pairs"])
def test_a_family_of_pairs_learns_more_than_rates(name: str, pairs_file: Path, tmp_path: Path) -> None:
    outcome = _train(name, pairs_file, tmp_path / "run")
    assert outcome["loss"] < _MARGIN * outcome["baseline_loss"]
    assert load_any(tmp_path / "run").model.shape.family == name


def test_every_family_has_a_ready_recipe() -> None:
    for name in FAMILIES:
        assert load(recipe_of(name)).model.family == name


class _StopsAt(StepProgress):
    """As a run that is stopped by Ctrl-C behind a step."""

    def finished(self, step: int) -> bool:
        if step == 30:
            raise KeyboardInterrupt
        return super().finished(step)


def test_a_run_that_was_stopped_ends_with_the_same_numbers(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train("bert", text_file, tmp_path / "whole", **{"budget": "60steps", "model.dropout": 0.1})
    with monkeypatch.context() as patch:
        patch.setattr("groundup.pipeline.families.run.StepProgress", _StopsAt)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            _train("bert", text_file, tmp_path / "stopped", **{"budget": "60steps", "model.dropout": 0.1})
    run = Run(tmp_path / "stopped")
    assert not run.finished and (run.checkpoints / "step-25").is_dir()
    for part in ("shards", "tokenizers"):  # as where the cache was emptied since
        shutil.rmtree(cache_folder() / part)
    again = resume(run, QUIET)
    assert again["loss"] == whole["loss"]
    rows = [[(row["step"], row["loss"]) for row in read_rows(Run(tmp_path / name).metrics_file) if "loss" in row]
            for name in ("whole", "stopped")]  # fmt: skip
    assert rows[0] == rows[1]


def test_images_are_told_apart(shared_data: Path, tmp_path: Path) -> None:
    outcome = _train(
        "cnn", shared_data / "multimodal" / "mnist_t10k-images-idx3-ubyte.gz", tmp_path / "run",
        **{"model.options": load(recipe_of("cnn")).model.options, "model.context": 784},
    )  # fmt: skip
    assert outcome["accuracy"] > 0.5 > outcome["baseline_accuracy"]
    assert load_weights(tmp_path / "run").shape.family == "cnn"
    assert outcome["stages"]["evaluate"] > 0
    assert outcome["total_seconds"] == pytest.approx(sum(outcome["stages"].values()))
    with pytest.raises(UserError, match="family cnn, which does not read text"):
        load_text_model(tmp_path / "run")
    page = Run(tmp_path / "run").report_file.read_text("utf-8")
    assert "an image has 784 pixels" in page and "Pixels per second" in page
    assert "heads of" not in page and "vocabulary of" not in page and "The tokenizer" not in page


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.context": None}, "model.context is not set"),
        ({"model.options": {"whole_wrd": True}}, "whole_word"),
        ({"model.num_heads": 5}, "not a multiple of model.num_heads=5"),
        ({"budget": "200tok"}, "too little"),
        ({"tokenizer.file": "no-such-tokenizer"}, "no-such-tokenizer"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    changes: dict[str, Any], named: str, text_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=named) as error:
        _train("bert", text_file, tmp_path / "run", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_documents_are_kept_apart_by_attention_alone(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not for the family nnlm, which cannot keep to a document"):
        _train("nnlm", text_file, tmp_path / "run", **{"data.packing": "documents"})
    assert not (tmp_path / "run").exists()


def test_pairs_must_be_named(tmp_path: Path) -> None:
    recipe = load(recipe_of("transformer"), {**_SMALL, "data.sources": [], "budget": "5steps"})
    with pytest.raises(UserError, match="learns from pairs of texts, and no file was given"):
        build(recipe, tmp_path / "run", QUIET)
