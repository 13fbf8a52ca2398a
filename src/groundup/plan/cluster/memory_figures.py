"""The figures of a device's memory at its peak, each with the formula that holds for this layout and moment.

The peak is in the forward or the backward pass: an update takes nothing that the forward pass does not take too.
"""

from collections.abc import Mapping

from groundup.plan.cluster.activations import hidden_bytes, layer_bytes, token_bytes
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import (
    GATHERED_LAYERS,
    DeviceMemory,
    Moment,
    has_whole_layers,
    keeps_gathered,
)
from groundup.plan.cluster.states import StateRecipe
from groundup.plan.figures import Figure, Value
from groundup.shape import Shape

_KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198"
_NARAYANAN = "Narayanan et al. 2021, arXiv:2104.04473"
_ZERO = "Rajbhandari et al. 2020, arXiv:1910.02054"


def peak_figure(memory: DeviceMemory) -> Figure:
    """The peak, as the sum of its categories."""
    peak = memory.at_peak
    moment = peak.moments[peak.peak_moment]
    return Figure("peak_bytes", "memory at the peak, a device", memory.peak, "bytes",
                  formula=" + ".join(Moment._fields), values=moment._asdict(),
                  source=memory.constants.source)  # fmt: skip


def peak_figures(
    shape: Shape, layout: Layout, recipe: StateRecipe, memory: DeviceMemory, flash: bool = True
) -> list[Figure]:
    """The peak, where and when it is, and its categories."""
    peak = memory.at_peak
    return [
        peak_figure(memory),
        Figure("peak_stage", "stage that peaks", peak.stage.index, "count"),
        Figure("peak_moment", "moment of the peak", peak.peak_moment),
        *_states(layout, recipe, memory),
        _activations(shape, layout, recipe, memory, flash),
        _logits(shape, layout, memory),
        _other(shape, layout, recipe, memory),
        _layer(shape, layout, recipe, flash),
    ]


def _states(layout: Layout, recipe: StateRecipe, memory: DeviceMemory) -> list[Figure]:
    """Weights, gradients and optimizer states; ZeRO divides the later ones first."""
    peak = memory.at_peak
    moment = peak.moments[peak.peak_moment]
    bytes_a_parameter = {
        "weights": ("W", recipe.weights, 3),
        "gradients": ("G", recipe.gradients, 2),
        "optimizer": ("K", recipe.master + recipe.optimizer, 1),
    }
    values: dict[str, Value] = {"N": peak.stage.parameters, "t": layout.tensor}
    shards: dict[str, Value] = {"d": layout.zero_devices}
    return [
        Figure(f"{name}_bytes", name, getattr(moment, name), "bytes",
               formula=f"{symbol} N / (t d)" if layout.zero >= divided_from else f"{symbol} N / t",
               values=values | {symbol: size} | (shards if layout.zero >= divided_from else {}), source=_ZERO)
        for name, (symbol, size, divided_from) in bytes_a_parameter.items()
    ]  # fmt: skip


def _activations(shape: Shape, layout: Layout, recipe: StateRecipe, memory: DeviceMemory, flash: bool) -> Figure:
    peak, constants = memory.at_peak, memory.constants
    kept = layer_bytes(shape, layout, recompute=layout.recompute, flash=flash, value_bytes=recipe.value_bytes)
    terms: dict[str, Mapping[str, Value]] = {
        "k l A f": {"k": peak.in_flight, "l": peak.stage.layers, "A": kept, "f": constants.activations}
    }
    if keeps_gathered(layout) and layout.tensor > 1:
        hidden = hidden_bytes(shape, layout, recipe.value_bytes)
        terms["l g H"] = {"l": peak.stage.layers, "g": constants.gathered, "H": hidden}
    if peak.peak_moment == "backward" and layout.recompute != "none" and peak.stage.layers:
        whole = layer_bytes(shape, layout, flash=flash, value_bytes=recipe.value_bytes)
        terms["f (R - A)"] = {"f": constants.activations, "R": whole, "A": kept}
    source = f"A, R: {_KORTHIKANTI}; k: {_NARAYANAN}; f, g: {constants.source}"
    moment = peak.moments[peak.peak_moment]
    return _sum("activations_bytes", "activations", moment.activations, terms, source)


def _logits(shape: Shape, layout: Layout, memory: DeviceMemory) -> Figure:
    peak, constants = memory.at_peak, memory.constants
    if not (peak.stage.is_last and peak.peak_moment == "forward"):
        return Figure("logits_bytes", "logits and loss", 0.0, "bytes",
                      source="only on the last stage, until the loss is taken")  # fmt: skip
    return Figure("logits_bytes", "logits and loss", peak.forward.logits, "bytes", formula="b s v e / (c t)",
                  values={"b": layout.micro_batch, "s": shape.context, "v": shape.vocabulary_size,
                          "e": constants.logit_bytes, "c": layout.context, "t": layout.tensor},
                  source=constants.source)  # fmt: skip


def _other(shape: Shape, layout: Layout, recipe: StateRecipe, memory: DeviceMemory) -> Figure:
    peak, constants = memory.at_peak, memory.constants
    parameters: dict[str, Value] = {"N": peak.stage.parameters, "t": layout.tensor}
    buckets = parameters | {"x": constants.parameter_bytes}
    terms: dict[str, Mapping[str, Value]] = (
        {"x N / (t d)": buckets | {"d": layout.zero_devices}} if layout.zero >= 2 else {"x N / t": buckets}
    )
    if layout.tensor > 1:
        terms["u H"] = {"u": constants.buffers, "H": hidden_bytes(shape, layout, recipe.value_bytes)}
    if has_whole_layers(layout, peak.stage):
        layers = parameters | {"l": peak.stage.layers}
        if layout.zero == 3:
            terms["h W N / (l t)"] = layers | {"h": GATHERED_LAYERS, "W": recipe.weights}
        if peak.peak_moment == "backward":
            terms["G N / (l t)"] = layers | {"G": recipe.gradients}
    terms["D"] = {"D": constants.device_bytes}
    moment = peak.moments[peak.peak_moment]
    source = f"{constants.source}; layers that ZeRO has whole: {_ZERO}" if layout.zero >= 2 else constants.source
    return _sum("other_bytes", "buffers and what is not divided", moment.other, terms, source)


def _layer(shape: Shape, layout: Layout, recipe: StateRecipe, flash: bool) -> Figure:
    size = recipe.value_bytes
    outside, inside = token_bytes(shape, recompute=layout.recompute, flash=flash, value_bytes=size)
    return Figure("layer_activation_bytes", "activations of a layer and micro-batch",
                  layer_bytes(shape, layout, recompute=layout.recompute, flash=flash, value_bytes=size), "bytes",
                  formula="b s (o / w + i / t) / c",
                  values={"b": layout.micro_batch, "s": shape.context, "o": outside,
                          "w": layout.tensor if layout.sequence else 1, "i": inside, "t": layout.tensor,
                          "c": layout.context},
                  source=f"o, i: of a token, beside and within the products; {_KORTHIKANTI}")  # fmt: skip


def _sum(name: str, label: str, value: float, terms: Mapping[str, Mapping[str, Value]], source: str) -> Figure:
    """A figure that is a sum of terms, each with its values."""
    values = {symbol: number for each in terms.values() for symbol, number in each.items()}
    return Figure(name, label, value, "bytes", formula=" + ".join(terms), values=values, source=source)
