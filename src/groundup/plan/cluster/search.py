"""The layouts in which a cluster trains a model fastest, among all that divide evenly and fit the memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from math import prod
from typing import Any, TypeAlias, get_args

from groundup.errors import UserError, nearest
from groundup.plan.cluster.devices import Cluster
from groundup.plan.cluster.layout import Layout, Schedule, Zero
from groundup.plan.cluster.memory import DeviceMemory, device_memory, usable_bytes
from groundup.plan.cluster.states import StateRecipe, state_bytes
from groundup.plan.cluster.time import H100_NANOTRON, StepTime, TimeConstants, TimeModel
from groundup.plan.memory import Recompute
from groundup.plan.money import price
from groundup.plan.parameters import total
from groundup.shape import Shape

# What may be fixed: sizes of groups, sizes of batches, and ways to do things.
GROUPS = ("tensor", "context", "pipeline", "data")
SIZES = (*GROUPS, "micro_batch", "accumulation", "virtual_stages")
WAYS: dict[str, tuple[Any, ...]] = {
    "zero": get_args(Zero),
    "sequence": (False, True),
    "schedule": get_args(Schedule),
    "recompute": get_args(Recompute),
}
# Sequences are cut into pieces no shorter than this, unless the group's size is fixed: Llama 3 cut 131,072
# tokens into 16 (Grattafiori et al. 2024, arXiv:2407.21783), and no runs with shorter ones are known to the
# constants of the time.
_SHORTEST_PIECE = 8192
# What is planned to leave less than this share of the memory free is no choice: plans are off by more than that.
HEADROOM = 0.03
# Speeds that differ by less are taken for equal: plans of good layouts are off by more (benchmarks/RESULTS.md).
_EQUALLY_FAST = 0.02
# So many are looked at for one that is simpler and as fast as the fastest.
_COMPARED = 5
_NEXT_ZERO: dict[Zero, Zero] = {1: 2, 2: 3}

# Seconds; a place among equally fast ones, so that the order is always the same; the layout; its time.
_Costed: TypeAlias = tuple[float, tuple[Any, ...], Layout, StepTime]


@dataclass(frozen=True)
class Candidate:
    """A layout with what it takes: memory and time of a step, and the price of all devices."""

    layout: Layout
    memory: DeviceMemory
    time: StepTime
    usd_per_hour: float

    @property
    def usd_per_billion_tokens(self) -> float:
        """What training on 1e9 tokens costs."""
        return self.usd_per_hour / 3600 * 1e9 / self.time.tokens_per_second


def search(
    shape: Shape,
    cluster: Cluster,
    batch: int,
    recipe: StateRecipe,
    *,
    fixed: Mapping[str, Any] | None = None,
    limit: int = 10,
    usd_per_device_hour: float | None = None,
    constants: TimeConstants = H100_NANOTRON,
) -> list[Candidate]:
    """The `limit` fastest layouts that fit, the best first.

    Args:
        shape: of the model; its context is the length of the sequences.
        cluster: all of whose devices are used.
        batch: sequences of one optimizer step, over all devices.
        recipe: bytes a parameter.
        fixed: fields of the layout that are given, by name.
        limit: how many layouts.
        usd_per_device_hour: instead of the usual price.
        constants: of the time's formulas.

    Raises UserError where no layout divides, with choices that do, and where none fits, with what would.
    """
    check_fixed(fixed or {}, shape, cluster, batch)
    usd_per_hour = cluster.count * price(cluster.device, usd_per_device_hour).typical
    return _Search(shape, cluster, batch, recipe, fixed or {}, usd_per_hour, constants).best(limit)


def check_fixed(fixed: Mapping[str, Any], shape: Shape, cluster: Cluster, batch: int) -> None:
    """UserError, with choices that are valid, for factors that do not divide what they are to divide."""
    for name, value in fixed.items():
        if name not in SIZES and name not in WAYS:
            raise UserError(f"a layout has no '{name}'{nearest(name, (*SIZES, *WAYS))}")
        if name in WAYS and value not in WAYS[name]:
            raise UserError(f"{name}={value} is not possible; valid: {', '.join(map(str, WAYS[name]))}")
        if name in GROUPS:
            _divides(name, value, f"{cluster.count} devices", cluster.count)
    given = {name: fixed[name] for name in GROUPS if name in fixed}
    if cluster.count % prod(given.values()):
        raise UserError(
            f"{' x '.join(f'{name}={value}' for name, value in given.items())} does not divide {cluster.count} "
            "devices; make one of them smaller"
        )
    Layout(**fixed).check(shape)
    for name in ("data", "micro_batch", "accumulation"):
        if name in fixed:
            _divides(name, fixed[name], f"the global batch of {batch} sequences", batch)


def _divides(name: str, value: int, what: str, amount: int) -> None:
    if value < 1 or amount % value:
        choices = divisors(amount)
        shown = ", ".join(map(str, choices[:12])) + (", ..." if len(choices) > 12 else "")
        raise UserError(f"{name}={value} does not divide {what}; valid: {shown}")


def ranking(layouts: Sequence[Layout], speeds: Sequence[float]) -> list[int]:
    """The places of the layouts, the fastest first; of those as fast as the fastest, the one that divides least.

    Fewer devices that share a layer, and fewer stages, are less that can be slower than planned.
    """
    fastest = max(speeds)

    def key(place: int) -> tuple[bool, int, float]:
        behind = speeds[place] < (1 - _EQUALLY_FAST) * fastest
        layout = layouts[place]
        return behind, 0 if behind else layout.tensor * layout.pipeline, -speeds[place]

    return sorted(range(len(layouts)), key=key)


def divisors(amount: int) -> list[int]:
    """All, the smallest first."""
    small = [number for number in range(1, int(amount**0.5) + 1) if amount % number == 0]
    return small + [amount // number for number in reversed(small) if number * number != amount]


@dataclass(frozen=True)
class _Search:
    """A walk from the fastest layout to slower ones; what saves memory at the cost of time is only tried at need.

    Layouts that keep all they can are costed first. Where one does not fit, those follow it that divide
    gradients and weights too (ZeRO-2 and 3) or compute activations again: each is slower than what it follows,
    so that the first one that fits is the fastest of all.
    """

    shape: Shape
    cluster: Cluster
    batch: int
    recipe: StateRecipe
    fixed: Mapping[str, Any]
    usd_per_hour: float
    constants: TimeConstants

    @property
    def room(self) -> float:
        """Bytes that training may take of a device's memory."""
        return (1 - HEADROOM) * usable_bytes(self.cluster.device)

    def best(self, limit: int) -> list[Candidate]:
        """The fastest that fit, in the order of `ranking`; UserError if there are none."""
        times = TimeModel(self.shape, self.cluster, self.recipe, self.constants)
        queue = [_costed(times, layout) for layout in self._layouts()]
        if not queue:
            raise UserError(self._indivisible())
        heapify(queue)
        found: list[Candidate] = []
        while queue and len(found) < max(limit, _COMPARED):
            _, _, layout, time = heappop(queue)
            if memory := self._memory_if_it_fits(layout):
                found.append(Candidate(layout, memory, time, self.usd_per_hour))
            else:
                for other in self._smaller(layout):
                    heappush(queue, _costed(times, other))
        if not found:
            raise UserError(self._too_large())
        speeds = [candidate.time.tokens_per_second for candidate in found]
        order = ranking([candidate.layout for candidate in found], speeds)
        return [found[place] for place in order[:limit]]

    def _groups(self) -> Iterator[tuple[int, int, int, int]]:
        """Sizes of the groups, in the order of `GROUPS`, whose product is the number of devices."""
        devices, shape = self.cluster.count, self.shape
        for tensor in self._sizes("tensor", devices, self.cluster.device.node_size):
            if shape.num_kv_heads % tensor or shape.feedforward_width % tensor:
                continue
            for context in self._sizes("context", devices // tensor, max(1, shape.context // _SHORTEST_PIECE)):
                if shape.context % context:
                    continue
                for pipeline in self._sizes("pipeline", devices // tensor // context, shape.num_layers):
                    data = devices // tensor // context // pipeline
                    if self.fixed.get("data", data) == data:
                        yield tensor, context, pipeline, data

    def _layouts(self) -> Iterator[Layout]:
        """All that divide evenly and keep all they can."""
        ways = {
            name: self.fixed[name] for name in ("sequence", "schedule", "virtual_stages") if name in self.fixed
        }
        recompute = self.fixed.get("recompute", "none")
        for tensor, context, pipeline, data in self._groups():
            if self.batch % data:
                continue
            share = self.batch // data
            zeros: tuple[Zero, ...] = (0, 1) if data * context > 1 else (0,)
            if "zero" in self.fixed:
                zeros = (self.fixed["zero"],)
            for micro_batch in self._sizes("micro_batch", share, share):
                if self.fixed.get("accumulation", share // micro_batch) != share // micro_batch:
                    continue
                for zero in zeros:
                    yield Layout(
                        data=data,
                        tensor=tensor,
                        context=context,
                        pipeline=pipeline,
                        zero=zero,
                        micro_batch=micro_batch,
                        accumulation=share // micro_batch,
                        recompute=recompute,
                        **ways,
                    )

    def _sizes(self, name: str, amount: int, most: int) -> list[int]:
        """The divisors of `amount` up to `most`, or the fixed one if it is among them."""
        if name in self.fixed:
            return [self.fixed[name]] if amount % self.fixed[name] == 0 else []
        return [size for size in divisors(amount) if size <= most]

    def _smaller(self, layout: Layout) -> Iterator[Layout]:
        """Layouts that differ in one thing, need less memory for it and more time; none is reached twice."""
        if layout.recompute == "none":
            if "zero" not in self.fixed and layout.zero in _NEXT_ZERO:
                yield replace(layout, zero=_NEXT_ZERO[layout.zero])
            if "recompute" not in self.fixed:
                yield replace(layout, recompute="full")

    def _memory_if_it_fits(self, layout: Layout) -> DeviceMemory | None:
        # The states alone tell of most that do not fit, and are quickly counted.
        least = total(self.shape) / layout.tensor / layout.pipeline
        states = state_bytes(self.recipe, least, layout.zero, layout.zero_devices)
        if states.total > self.room:
            return None
        memory = device_memory(self.shape, layout, self.recipe)
        return memory if memory.peak <= self.room else None

    def _indivisible(self) -> str:
        replicas = sorted({data for _, _, _, data in self._groups()})
        if not replicas:
            given = ", ".join(f"{name}={value}" for name, value in self.fixed.items())
            return f"no layout of {self.cluster.count} devices has {given}; leave one of them open"
        least = replicas[0]
        down = max(1, self.batch // least) * least
        return (
            f"a global batch of {self.batch} sequences does not divide over the replicas that "
            f"{self.cluster.count} devices can hold (data={', '.join(map(str, replicas[:6]))}); "
            f"use {down} or {down + least}"
        )

    def _too_large(self) -> str:
        smallest = min(self._most_saving(), key=lambda memory: memory.peak)
        cures = ["more devices", "shorter sequences"]
        if open_again := [
            name for name in ("tensor", "pipeline", "context", "zero", "recompute") if name in self.fixed
        ]:
            cures.insert(0, f"{' and '.join(open_again)} left open")
        if self.recipe.total > 8:
            cures.append("states of fewer bytes a parameter (--recipe 8bit-adam)")
        return (
            f"the model does not fit {self.cluster.name}: the most saving layout takes "
            f"{smallest.peak / 2**30:.1f} GiB a device of the {self.room / 2**30:.1f} GiB that it may take; "
            f"what helps: {', '.join(cures)}"
        )

    def _most_saving(self) -> Iterator[DeviceMemory]:
        for layout in self._layouts():
            if layout.micro_batch == self.fixed.get("micro_batch", 1):
                least = replace(
                    layout,
                    zero=self.fixed.get("zero", 3 if layout.data * layout.context > 1 else 0),
                    recompute=self.fixed.get("recompute", "full"),
                )
                yield device_memory(self.shape, least, self.recipe)


def _costed(times: TimeModel, layout: Layout) -> _Costed:
    time = times.step(layout)
    place = (layout.pipeline, layout.tensor, layout.context, layout.zero, -layout.micro_batch, layout.recompute)
    return time.seconds, place, layout, time
