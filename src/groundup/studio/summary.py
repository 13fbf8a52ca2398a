"""Everything that the report says about a run, as plain data."""

import math
from itertools import groupby
from operator import itemgetter
from typing import Any

from groundup.run import Run, read_rows
from groundup.shape import Shape, family
from groundup.studio.curves import Columns, curves, last, read_metrics
from groundup.studio.ledger import ledger_rows
from groundup.studio.vocabulary import vocabulary_figures

_MOST_SAMPLED_STEPS = 12

# What is compared: field, name, unit. Those of the second row keep their meaning in a run that is not over.
_TOTALS = (
    ("train_seconds", "Training time", "seconds"),
    ("steps", "Steps", "count"),
    ("tokens", "Tokens", "count"),
    ("epochs", "Passes over the text", "number"),
    ("flops", "Computation", "flops"),
)
_RATES = (("tokens_per_second", "Tokens per second", "count"), ("peak_bytes", "Peak memory", "bytes"))
_IMAGE_NAMES = {
    "tokens": "Pixels",
    "epochs": "Passes over the images",
    "tokens_per_second": "Pixels per second",
}
_LOSS = (("bits_per_byte", "Bits per byte", "bits"),)


def summary(run: Run) -> dict[str, Any]:
    """What the page shows, derived from the run's files: numbers as they are, units in their names.

    What a run has not come to yet is None or empty. UserError if its recipe, plan or tokenizer cannot be read.
    """
    recipe = run.recipe
    plan, outcome = run.read_json(run.plan_file), run.read_json(run.outcome_file)
    train, validation = read_metrics(run)
    reads = family(recipe.model.family).examples
    measured = outcome or _so_far(plan, train, validation)
    shape = Shape.model_validate(plan["shape"]) if plan else None
    ledger = plan["ledger"] if "ledger" in plan else ledger_rows(shape) if shape else []
    return {
        "name": recipe.name,
        "description": recipe.description,
        "finished": run.finished,
        "by_objective": "baseline_loss" in outcome or "ledger" in plan,
        "reads": reads,
        "by_clock": plan.get("budget", {}).get("kind") == "seconds",
        "budget": plan.get("budget", {}).get("text", recipe.budget),
        "plan": plan,
        "measured": measured,
        "share_done": _share_done(measured, plan, run.finished),
        "verdict": _verdict(plan, outcome),
        "comparison": _comparison(plan, measured, run.finished, _IMAGE_NAMES if reads == "images" else {}),
        "curves": curves(train, validation),
        "bits_per_byte_per_nat": _bits_per_byte_per_nat(measured),
        "clip": recipe.train.clip,
        "clipped_share": float((train["grad_norm"] > recipe.train.clip).mean()) if len(train["step"]) else None,
        "stages": _shares(outcome.get("stages", {})),
        "ledger": ledger,
        "ledger_groups": _groups(ledger),
        "samples": _samples(run, validation),
        "tokenizer": vocabulary_figures(run.tokenizer),
        "corpus": plan.get("corpus", {}),
        "hardware": plan.get("hardware", {}),
        "recipe": run.recipe_file.read_text("utf-8"),
    }


def _so_far(plan: dict[str, Any], train: Columns, validation: Columns) -> dict[str, Any]:
    """What an unfinished run has reached, under the names of `outcome.json`."""
    step, measurement = last(train), last(validation)
    reached: dict[str, Any] = {"parameters": plan["parameters"]} if plan else {}
    if step:
        # Rows of metrics count answers; where a position is not one answer, what was read follows from the steps.
        by_rows = "row_tokens" in plan
        tokens = step["step"] * plan["batch_size"] * plan["row_tokens"] if by_rows else step["tokens"]
        reached |= {
            "steps": int(step["step"]),
            "tokens": int(tokens),
            "train_seconds": step["seconds"],
            "tokens_per_second": tokens / step["seconds"] if step["seconds"] else None,
        }
        if plan:
            done = tokens / plan["tokens"]
            reached |= {name: plan[name] * done for name in ("epochs", "flops")}
    if measurement:
        loss, bits, accuracy = (measurement[name] for name in ("val_loss", "val_bits_per_byte", "val_accuracy"))
        reached |= {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if math.isfinite(bits):
            reached |= {"bits_per_byte": bits, "bytes_per_token": loss / math.log(2) / bits}
        if math.isfinite(accuracy):
            reached["accuracy"] = accuracy
    elif "corpus" in plan:
        reached["bytes_per_token"] = plan["corpus"].get("bytes_per_token")
    return reached


def _share_done(measured: dict[str, Any], plan: dict[str, Any], finished: bool) -> float | None:
    """How far the run is, 0..1: by the clock if that ends it, else by steps."""
    if finished:
        return 1.0
    if not plan:
        return None
    field = "train_seconds" if plan["budget"]["kind"] == "seconds" else "steps"
    return float(min(1.0, measured.get(field, 0) / plan[field]))


def _verdict(plan: dict[str, Any], outcome: dict[str, Any]) -> str | None:
    """Whether the loss came out within, below or above the range that was predicted."""
    if "bits_per_byte_low" not in plan or "bits_per_byte" not in outcome:
        return None
    bits = outcome["bits_per_byte"]
    if bits < plan["bits_per_byte_low"]:
        return "below"
    return "above" if bits > plan["bits_per_byte_high"] else "within"


def _comparison(
    plan: dict[str, Any], measured: dict[str, Any], finished: bool, names: dict[str, str]
) -> list[dict[str, Any]]:
    """Rows of predicted and measured values; `miss` is measured / predicted - 1 where that is meaningful.

    `names` are used in the place of the usual ones. `place` and `range` are where the measured value and the
    predicted interval lie on a gauge, see `_on_gauge`.
    """
    rows = []
    for field, name, unit in (*_LOSS, *_TOTALS, *_RATES):
        if plan and field not in plan:
            continue
        predicted, value = plan.get(field), measured.get(field)
        comparable = finished or (field, name, unit) in _RATES
        miss = value / predicted - 1 if comparable and predicted and value is not None else None
        bounds = [plan[f"{field}_{bound}"] for bound in ("low", "high") if f"{field}_{bound}" in plan]
        rows.append(
            {
                "name": names.get(field, name),
                "field": field,
                "unit": unit,
                "predicted": predicted,
                "measured": value,
                "miss": miss,
                "place": None if miss is None else _on_gauge(miss),
                "range": [_on_gauge(bound / predicted - 1) for bound in bounds],
            }
        )
    return rows


def _on_gauge(miss: float) -> float:
    """Where a miss lies on a gauge from -50 % to +50 %, 0..100; what is farther off lies at its end."""
    return round(min(100.0, max(0.0, 50 + 100 * miss)), 2)


def _bits_per_byte_per_nat(measured: dict[str, Any]) -> float | None:
    """What turns nats per token into bits per byte: 1 / (ln 2 * bytes per token)."""
    bytes_per_token = measured.get("bytes_per_token")
    return 1 / (math.log(2) * bytes_per_token) if bytes_per_token else None


def _shares(seconds: dict[str, float]) -> list[dict[str, Any]]:
    whole = sum(seconds.values())
    return [
        {"name": name, "seconds": value, "share": value / whole if whole else 0.0}
        for name, value in seconds.items()
    ]


def _groups(ledger: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ledger's rows added up by group."""
    return [
        {
            "name": group,
            "parameters": sum(row["parameters"] for row in rows),
            "share": sum(row["share"] for row in rows),
        }
        for group, members in groupby(ledger, key=itemgetter("group"))
        if (rows := list(members))
    ]


def _samples(run: Run, validation: Columns) -> dict[str, Any]:
    """Samples by step, at most 12 steps spread over the run, each with the loss that was measured there.

    The end of a run can be sampled twice; the later text of a prompt counts.
    """
    steps: dict[int, dict[str, Any]] = {}
    bits = dict(zip(validation["step"], validation["val_bits_per_byte"], strict=True))
    for row in read_rows(run.samples_file):
        step = steps.setdefault(
            row["step"],
            {
                "step": row["step"],
                "tokens": row["tokens"],
                "bits_per_byte": bits.get(row["step"]),
                "texts": {},
            },
        )
        step["texts"][row["prompt"]] = row["text"]
    everything = list(steps.values())
    return {"steps": _spread(everything, _MOST_SAMPLED_STEPS), "num_steps": len(everything)}


def _spread(items: list[Any], most: int) -> list[Any]:
    """At most `most` items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
