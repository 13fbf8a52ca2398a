"""groundup: build a language model of your own, from raw text to a served model, and see how it works.

The public API, each name imported when it is first used:

- `plan(budget, hardware, corpus_bytes)`: what to train, and what to expect of it
- `Tokenizer`: bytes to ids and back
- `build(sources, budget=..., ...)`: the whole job, from text to a model folder and a report
- `load(folder)`: `.model` (ids (B, T) -> logits (B, T, V)) and `.tokenizer` of a run's or model folder
- `load_any(folder)`: the same of any family that reads text; `.model.text_features(ids)` is what it makes of it
- `load_classifier(folder)`: `.classify(texts)` of what `groundup finetune --out` wrote
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundup import plan as plan
    from groundup.api import build as build
    from groundup.model.folder import load as load
    from groundup.model.folder import load_any as load_any
    from groundup.tokenizer import Tokenizer as Tokenizer
    from groundup.tune.finetune import load_classifier as load_classifier

__version__ = "0.1.0"
__all__ = ["Tokenizer", "build", "load", "load_any", "load_classifier", "plan"]

_HOMES = {
    "Tokenizer": "groundup.tokenizer",
    "build": "groundup.api",
    "load": "groundup.model.folder",
    "load_any": "groundup.model.folder",
    "load_classifier": "groundup.tune.finetune",
}


def __getattr__(name: str) -> Any:
    if name == "plan":
        return import_module("groundup.plan")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'groundup' has no attribute '{name}'")
