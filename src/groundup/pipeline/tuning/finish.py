"""What a stage leaves behind: the model's folder, or that of its adapters, and the lines that say so."""

from typing import Any

from groundup import __version__
from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.model.lora import has_adapters
from groundup.pipeline.card import table
from groundup.pipeline.tuning.job import TuneJob
from groundup.tokenizer.turns import stop_ids
from groundup.tune.adapters import save_adapter

_NAMES = {
    "sft": "supervised fine-tuning",
    "reward": "learning what people prefer",
    "dpo": "direct preference optimisation",
    "ppo": "proximal policy optimisation",
    "grpo": "group-relative policy optimisation",
    "reject": "imitation of its own best answers",
}


def save_policy(job: TuneJob, model: Decoder, figures: dict[str, Any]) -> None:
    """Write RUN/model: a whole model folder, or adapters where only those were trained."""
    start, card = job.start, stage_card(job, figures)
    ends = sorted(stop_ids(start.tokenizer))
    sampling = {"temperature": 0.8, "top_k": 50, "eos_token_id": ends[0] if len(ends) == 1 else ends}
    if has_adapters(model):
        base = str(model_folder.model_folder(start.folder))
        save_adapter(job.run.model, model, start.tokenizer, base, card, sampling)
        return
    model_folder.save(job.run.model, model.cpu(), start.tokenizer, card, sampling)


def stage_card(job: TuneJob, figures: dict[str, Any]) -> str:
    """README.md of the folder: what it started from, what it learnt from, and what came of it."""
    settings, name = job.settings, _NAMES[job.recipe.stage]
    rows = {key.replace("_", " "): _text(value) for key, value in figures.items() if _is_plain(value)}
    return f"""---
tags:
- groundup
- {job.recipe.stage}
---

# {name[0].upper()}{name[1:]} of {job.start.folder.name}

Made with groundup {__version__} (`groundup {job.recipe.stage}`) from `{job.start.folder}`, on
{", ".join(f"`{source}`" for source in settings.data)}.

## Figures
{table(rows)}
"""


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
