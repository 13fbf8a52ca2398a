"""The fastest layouts of a model on a cluster: figures of the best, the others beside it, and what binds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.layout_question import LayoutQuestion
from groundup.plan.cluster.search import Candidate
from groundup.plan.cluster.time import H100_NANOTRON
from groundup.plan.figures import Answer, Chart, Column, Figure, Series, Table, Value
from groundup.plan.flops import train_flops_per_token
from groundup.plan.money import price
from groundup.plan.parameters import total

_PARTS = {
    "compute": "compute",
    "recompute": "recomputation",
    "tensor": "tensor parallel",
    "context": "context parallel",
    "handover": "between stages",
    "bubble": "pipeline bubble",
    "data": "gradients and weights",
    "update": "optimizer",
    "overhead": "rest",
}
_SOURCES = {
    "compute": "FLOPs and bytes of the slowest stage over the shares of the peaks in groundup.plan.cluster.time",
    "recompute": "the forward pass of each layer once more",
    "tensor": "4 all-reduces a layer and micro-batch: Korthikanti et al. 2022, arXiv:2205.05198",
    "context": "a ring of keys and values, less the attention beside it: Liu et al. 2023, arXiv:2310.01889",
    "handover": "hidden states from stage to stage and their gradients back",
    "bubble": "Narayanan et al. 2021, arXiv:2104.04473",
    "data": "2 (n - 1) / n of the gradients' bytes, or the parts of ZeRO, less what the backward pass hides: "
    "Rajbhandari et al. 2020, arXiv:1910.02054",
    "update": "states and gradients read and written at the memory's bandwidth, divided by ZeRO",
    "overhead": "measured, the same for every layout",
}
_COLUMNS = (
    Column("layout", "layout"),
    Column("peak_bytes", "memory", "bytes"),
    Column("bubble", "bubble", "share"),
    Column("communication", "communication", "share"),
    Column("mfu", "MFU", "share"),
    Column("tokens_per_second", "throughput", "tokens/s"),
    Column("usd_per_hour", "an hour", "usd"),
    Column("usd_per_billion_tokens", "1e9 tokens", "usd"),
)
# What changes the throughput by less is not worth a sentence.
_WORTH_TELLING = 0.02


def layout_answer(question: LayoutQuestion, candidates: Sequence[Candidate]) -> Answer:
    """The answer to `question`, whose fastest layouts are `candidates`, the best first."""
    best = candidates[0]
    names = [short_name(candidate.layout) for candidate in candidates]
    shown = [part for part in _PARTS if any(candidate.time.parts[part] > 0 for candidate in candidates)]
    cluster, size = question.cluster, total(question.shape) / 1e9
    return Answer(
        title=f"Layouts of {size:.3g}B parameters on {cluster.count} x {cluster.device.label}",
        figures=[*_layout_figures(best, question), *_time_figures(best, question), *_cost_figures(best, question)],
        tables=[Table("layouts", "The fastest layouts", _COLUMNS, [_row(candidate) for candidate in candidates])],
        charts=[
            Chart(
                name="time",
                title="Where the time of a step goes",
                kind="stack",
                x_label="layout",
                y_label="time of a step",
                x_unit="",
                y_unit="seconds",
                series=[
                    Series(_PARTS[part], names, [candidate.time.parts[part] for candidate in candidates])
                    for part in shown
                ],
            )
        ],
        notes=[
            *_rounding(question),
            *_binding(best, question),
            *_next_best(candidates),
            *_caveats(best, question),
        ],
    )


def short_name(layout: Layout) -> str:
    """A layout in a line, without what is not used: `dp64 tp8 zero1 mb2x4`."""
    sizes = {"dp": layout.data, "tp": layout.tensor, "cp": layout.context, "pp": layout.pipeline}
    groups = " ".join(f"{name}{size}" for name, size in sizes.items() if size > 1) or "one device"
    zero = f" zero{layout.zero}" if layout.zero else ""
    recompute = "" if layout.recompute == "none" else f" {layout.recompute} recompute"
    return f"{groups}{zero} mb{layout.micro_batch}x{layout.accumulation}{recompute}"


def _row(candidate: Candidate) -> list[Value]:
    time = candidate.time
    return [
        short_name(candidate.layout),
        candidate.memory.peak,
        time.bubble / time.seconds,
        (time.tensor + time.context + time.handover + time.data) / time.seconds,
        time.mfu,
        time.tokens_per_second,
        candidate.usd_per_hour,
        candidate.usd_per_billion_tokens,
    ]


def _layout_figures(best: Candidate, question: LayoutQuestion) -> list[Figure]:
    layout, memory = best.layout, best.memory
    return [
        Figure("data", "data parallel", layout.data, "count", formula="n / (t c p)",
               values={"n": layout.devices, "t": layout.tensor, "c": layout.context, "p": layout.pipeline}),
        Figure("tensor", "tensor parallel", layout.tensor, "count"),
        Figure("context_parallel", "context parallel", layout.context, "count"),
        Figure("pipeline", "pipeline stages", layout.pipeline, "count"),
        Figure("zero", "ZeRO stage", str(layout.zero), source="Rajbhandari et al. 2020, arXiv:1910.02054"),
        Figure("micro_batch", "micro-batch, sequences", layout.micro_batch, "count"),
        Figure("accumulation", "micro-batches a step", layout.accumulation, "count", formula="B / (b d)",
               values={"B": layout.batch, "b": layout.micro_batch, "d": layout.data}),
        Figure("recompute", "recomputation", layout.recompute),
        Figure("batch_tokens", "tokens a step", layout.batch * question.shape.context, "tokens", formula="B s",
               values={"B": layout.batch, "s": question.shape.context}),
        Figure("peak_bytes", "memory at the peak, a device", memory.peak, "bytes",
               source="groundup.plan.cluster.memory; `groundup plan memory` shows its parts"),
    ]  # fmt: skip


def _time_figures(best: Candidate, question: LayoutQuestion) -> list[Figure]:
    time, layout = best.time, best.layout
    flops = train_flops_per_token(question.shape)
    parts = {name: seconds for name, seconds in time.parts.items() if seconds > 0}
    figures = [
        Figure("step_seconds", "time of a step", time.seconds, "seconds", formula=" + ".join(parts), values=parts,
               source=H100_NANOTRON.source)
    ]  # fmt: skip
    for name, seconds in parts.items():
        if name == "bubble":
            busy = time.compute + time.recompute + time.tensor + time.context + time.handover
            formula = "(p - 1) / (v m) x"
            values: dict[str, Value] = {
                "p": layout.pipeline, "v": layout.virtual_stages, "m": layout.accumulation, "x": busy,
            }  # fmt: skip
        else:
            formula, values = "", {}
        figures.append(
            Figure(
                f"{name}_seconds", f"of it: {_PARTS[name]}", seconds, "seconds", formula, values, _SOURCES[name]
            )
        )
    return [
        *figures,
        Figure("tokens_per_second", "throughput", time.tokens_per_second, "tokens/s", formula="B s / T",
               values={"B": layout.batch, "s": question.shape.context, "T": time.seconds}),
        Figure("mfu", "MFU, of the peak", time.mfu, "share", formula="f r / (n P)",
               values={"f": flops, "r": time.tokens_per_second, "n": layout.devices,
                       "P": time.peak_flops / layout.devices},
               source="Chowdhery et al. 2022, arXiv:2204.02311; causal attention counted half"),
    ]  # fmt: skip


def _cost_figures(best: Candidate, question: LayoutQuestion) -> list[Figure]:
    rate = price(question.cluster.device, question.usd_per_device_hour)
    count, source = question.cluster.count, f"{rate.source}, {rate.date}"
    share = best.usd_per_billion_tokens / rate.typical
    return [
        Figure("usd_per_hour", "price of all devices", best.usd_per_hour, "usd/h", formula="n p",
               values={"n": count, "p": rate.typical}, source=source,
               low=count * rate.low, high=count * rate.high),
        Figure("usd_per_billion_tokens", "cost of 1e9 tokens", best.usd_per_billion_tokens, "usd",
               formula="n p 1e9 / (3600 r)",
               values={"n": count, "p": rate.typical, "r": best.time.tokens_per_second}, source=source,
               low=share * rate.low, high=share * rate.high),
    ]  # fmt: skip


def _rounding(question: LayoutQuestion) -> list[str]:
    wanted, tokens = question.wanted_tokens, question.batch * question.shape.context
    if wanted is None or wanted == tokens:
        return []
    return [f"the global batch is {question.batch:,} sequences, {tokens:,} tokens, so that it divides"]


def _binding(best: Candidate, question: LayoutQuestion) -> list[str]:
    """What more of one thing would bring, the most first; and how near the memory is to full."""
    device = question.cluster.device

    def gain(**changes: Any) -> float:
        faster = question.search(1, **changes)[0]
        return faster.time.tokens_per_second / best.time.tokens_per_second - 1

    def with_device(**values: Any) -> dict[str, Any]:
        return {"cluster": replace(question.cluster, device=replace(device, **values))}

    gains = {
        "twice the memory a device": gain(**with_device(memory_bytes=2 * device.memory_bytes)),
        "twice the global batch": gain(batch=2 * question.batch),
    }
    if question.cluster.nodes > 1:
        gains["a network between nodes twice as fast"] = gain(
            **with_device(network_bandwidth=2 * device.network_bandwidth)
        )
    if best.layout.tensor > 1:
        gains["links within a node twice as fast"] = gain(**with_device(link_bandwidth=2 * device.link_bandwidth))
    told = sorted(((value, what) for what, value in gains.items() if value >= _WORTH_TELLING), reverse=True)
    used = best.memory.peak / device.memory_bytes
    notes = [f"{what} would bring {value:.0%} more throughput" for value, what in told]
    if not notes:
        notes = ["computation binds: neither memory, network nor batch would bring 2 % more throughput"]
    return [*notes, f"the peak takes {used:.0%} of a device's memory"]


def _next_best(candidates: Sequence[Candidate]) -> list[str]:
    best = candidates[0]
    for other in candidates[1:]:
        if (other.layout.data, other.layout.tensor) != (best.layout.data, best.layout.tensor):
            less = 1 - other.time.tokens_per_second / best.time.tokens_per_second
            return [f"next best with other groups: {short_name(other.layout)}, {less:.1%} slower"]
    return []


def _caveats(best: Candidate, question: LayoutQuestion) -> list[str]:
    """What the measured runs say nothing about: they had H100s, ZeRO-0 and 1, whole sequences, all kept."""
    layout, device = best.layout, question.cluster.device
    unmeasured = {
        device.label: not device.name.startswith("h100"),
        f"ZeRO-{layout.zero}": layout.zero > 1,
        "context parallelism": layout.context > 1,
        "recomputation": layout.recompute != "none",
    }
    names = [name for name, is_there in unmeasured.items() if is_there]
    return [f"by formulas alone, no measured runs stand behind it: {', '.join(names)}"] if names else []
