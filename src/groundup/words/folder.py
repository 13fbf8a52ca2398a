"""A folder of word vectors: what `groundup words train` writes, and goes on from.

`vectors.bin` (word2vec's binary format), `vocabulary.txt` (words and counts), `words.json` (settings and figures),
and while training is not finished `state.safetensors` (all weights, and how far each thread has come).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from groundup.errors import UserError
from groundup.files import folder_atomically, tensors_to, write_json
from groundup.words import formats
from groundup.words.settings import GloveSettings, Settings, TextSettings, Word2VecSettings
from groundup.words.vectors import WordVectors
from groundup.words.vocabulary import Vocabulary

_ABOUT, _VECTORS, _VOCABULARY, _STATE = "words.json", "vectors.bin", "vocabulary.txt", "state.safetensors"
_ANY_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Word2VecSettings | GloveSettings)


@dataclass(frozen=True)
class About:
    """What `words.json` says."""

    settings: Settings
    text: TextSettings
    figures: dict[str, Any]


def save(
    path: Path, about: About, vocabulary: Vocabulary, vectors: NDArray[np.float32],
    state: dict[str, NDArray[Any]] | None,
) -> None:  # fmt: skip
    """Write the folder in one go, in the place of one that is there; `state` where training is to go on."""
    with folder_atomically(path) as folder:
        formats.write(WordVectors(vocabulary.words, vectors), folder / _VECTORS)
        vocabulary.save(folder / _VOCABULARY)
        write_json(
            folder / _ABOUT,
            {
                "settings": about.settings.model_dump(),
                "text": about.text.model_dump(),
                "finished": about.figures["finished"],
                "figures": about.figures,
            },
        )
        if state is not None:
            from safetensors.numpy import save_file

            with tensors_to(path / _STATE):
                save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, folder / _STATE)


def vectors_file(path: Path) -> Path:
    """The vectors in a folder, or in `model/` of a run's; UserError where it has none."""
    for folder in (path, path / "model"):
        if (folder / _VECTORS).is_file():
            return folder / _VECTORS
    raise UserError(f"{path} holds no {_VECTORS}; name a folder that `groundup words train` wrote, or a file")


def read_about(path: Path) -> About:
    """What `words.json` says; UserError where it is missing or damaged."""
    try:
        content = json.loads((path / _ABOUT).read_text("utf-8"))
        settings = _ANY_SETTINGS.validate_python(content["settings"])
        text = TextSettings.model_validate(content["text"])
        return About(settings, text, content["figures"])
    except FileNotFoundError:
        raise UserError(f"{path} holds no {_ABOUT}; name a folder that `groundup words train` wrote") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValidationError):
        raise UserError(f"{path / _ABOUT} is damaged; train again") from None


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """The state to go on from; UserError where training is finished or the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (path / _STATE).is_file():
        raise UserError(f"{path} is finished: there is nothing to continue; choose another --out to train anew")
    try:
        return load_file(path / _STATE)
    except SafetensorError:
        raise UserError(f"{path / _STATE} is damaged; train again with another --out") from None


def read_vocabulary(path: Path) -> Vocabulary:
    """The words and their counts."""
    return Vocabulary.load(path / _VOCABULARY)
