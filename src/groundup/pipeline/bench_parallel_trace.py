"""What the processes of a step did when, from what torch.profiler recorded in each of them.

A process computes on one thread; gloo sends on others, and each collective is a span there, from when a process is
ready for it to its end. Data travels from when the last of its processes is ready. A process waits where its
computing thread does nothing until a collective ends: before data travels it is idle, then its communication is
exposed, that is not hidden behind computing. All else counts as computing, Python between operators too.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

STEP = "groundup.step"

Span: TypeAlias = tuple[float, float]
"""From when to when, in seconds."""
Event: TypeAlias = dict[str, Any]

_BACKWARD = "autograd::engine::evaluate_function"
_WAIT = "_c10d_functional::wait_tensor"
# Frames around operators, within which a process may wait.
_FRAMES = (
    "autograd::",
    "torch::autograd::",
    "GeneratedBackward",
    "FSDP::",
    "DistributedDataParallel",
    "Optimizer.",
)
# By the operator that begins a collective: the names that gloo may have for its work.
_WORK: dict[str, tuple[str, ...]] = {
    "allreduce": ("gloo:all_reduce",),
    "allgather": ("gloo:all_gather",),
    "reduce_scatter": ("gloo:reduce_scatter", "gloo:all_reduce"),  # gloo sums all of it
    "alltoall": ("gloo:all_to_all",),
    "broadcast": ("gloo:broadcast",),
    "send": ("gloo:send",),
    "recv": ("gloo:recv",),
}
_BETWEEN_TWO = {"send", "receive"}
# What is recorded as the beginning of two spans that began together may differ by so much.
_CLOCK = 2e-5
# So long after a collective has let the computing thread go on, its end may be recorded.
_LATE = 1e-3
# What is sent is drawn as long as this, where nobody waited for it.
_SHORTEST = 2e-4


@dataclass
class Communication:
    """One collective in one process: `begin` is when it was ready for it, `travels` when all were.

    Sending and receiving have a `peer`: its place on the axis.
    """

    kind: str
    axis: str
    bytes: int
    begin: float
    end: float
    travels: float
    peer: int | None = None


@dataclass
class Recorded:
    """One process's step: spans of it, of operators, of backward passes; when the update begins; collectives."""

    step: Span
    operators: list[Span]
    backward: list[Span]
    update: float
    communications: list[Communication]


@dataclass
class Lane:
    """One process's step, resolved: spans by phase, spans of waiting, and the seconds of each."""

    phases: list[tuple[str, float, float]] = field(default_factory=list)
    idle: list[Span] = field(default_factory=list)
    exposed: list[Span] = field(default_factory=list)


def read(file: Path, records: Sequence[tuple[str, str, int]]) -> Recorded:
    """The last step in a trace file; `records` are kind, axis and bytes of what is sent in a step, in order."""
    trace = json.loads(file.read_text("utf-8"))
    base = float(trace.get("baseTimeNanoseconds", 0)) / 1e9
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    for event in events:
        event["begin"] = base + float(event["ts"]) / 1e6
        event["end"] = event["begin"] + float(event["dur"]) / 1e6
    frame = max((event for event in events if event["name"] == STEP), key=_begin)
    step = (frame["begin"], frame["end"])
    within = [event for event in events if step[0] <= event["begin"] < step[1]]
    own = sorted((event for event in within if event["tid"] == frame["tid"]), key=_begin)
    backward = _united(_span(event) for event in own if event["name"].startswith(_BACKWARD))
    return Recorded(
        step=step,
        operators=sorted(_working(own)),
        backward=backward,
        update=backward[-1][1] if backward else step[0],
        communications=_communications(own, within, records),
    )


def _begin(event: Event) -> float:
    return float(event["begin"])


def _span(event: Event) -> Span:
    return event["begin"], event["end"]


def _working(events: Sequence[Event]) -> Iterator[Span]:
    """The spans of operators that have no others within them, without those that only wait."""
    calls = [event for event in events if "::" in event["name"] and not event["name"].startswith(_FRAMES)]
    for event, following in zip(calls, [*calls[1:], None], strict=True):
        is_leaf = following is None or following["begin"] >= event["end"]
        if is_leaf and event["name"] != _WAIT:
            yield _span(event)


def _united(spans: Iterable[Span]) -> list[Span]:
    """The same time in spans that do not overlap, in order."""
    united: list[Span] = []
    for begin, end in sorted(spans):
        if united and begin <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((begin, end))
    return united


def _communications(
    own: Sequence[Event], within: Sequence[Event], records: Sequence[tuple[str, str, int]]
) -> list[Communication]:
    """Each collective that the computing thread began, with the span of gloo's work for it."""
    work: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(within, key=_begin):
        if event["name"].startswith("gloo:"):
            work[event["name"]].append(event)
    told, found = iter(records), []
    for event in own:
        operator = event["name"].removeprefix("c10d::").strip("_") if event["name"].startswith("c10d::") else ""
        which = next((name for name in _WORK if operator.startswith(name)), None)
        if which is None:
            continue
        kind, axis, size = ("receive", "pipeline", 0) if which == "recv" else next(told, (which, "", 0))
        carried = _first_after(work, _WORK[which], event["begin"])
        if carried is not None and axis:
            begin, end = _span(carried)
            peer = int(event["args"]["Concrete Inputs"][2]) if kind in _BETWEEN_TWO else None
            found.append(Communication(kind, axis, size, begin, end, begin, peer))
    return found


def _first_after(work: dict[str, list[Event]], names: Iterable[str], begin: float) -> Event | None:
    """Take out the first work of one of these names that began then or later."""
    for name in names:
        for place, event in enumerate(work[name]):
            if event["begin"] >= begin - _CLOCK:
                return work[name].pop(place)
    return None


def align(
    recorded: Sequence[Recorded], groups: Sequence[dict[str, str]], places: Sequence[dict[str, int]]
) -> None:
    """Find out when the data of each collective began to travel: when the last of its processes was ready.

    For each process, by axis: `groups` says which group of processes it belongs to, `places` where in it.
    """
    same: dict[tuple[object, ...], list[Communication]] = defaultdict(list)
    for one, names, own in zip(recorded, groups, places, strict=True):
        numbers: dict[tuple[object, ...], int] = defaultdict(int)
        for found in one.communications:
            key: tuple[object, ...] = (found.axis, names.get(found.axis))
            if found.peer is not None:
                ends = (own[found.axis], found.peer)
                key = (*key, *(ends if found.kind == "send" else reversed(ends)))
            same[*key, numbers[key]].append(found)
            numbers[key] += 1
    for together in same.values():
        ready = max(found.begin for found in together)
        # Sending and receiving end in the record when somebody asks for it: the first who does is the nearest.
        first = min(found.end for found in together)
        for found in together:
            if found.peer is not None:
                found.end = max(first, found.begin)
            found.travels = min(max(ready, found.begin), found.end)


def resolve(one: Recorded) -> Lane:
    """When a process computed, and in which phase; when it was idle, and when its communication was exposed."""
    lane = Lane()
    begins = [begin for begin, _ in one.operators]
    waits: list[Span] = []
    for communication in sorted(one.communications, key=lambda found: found.end):
        pause = _pause(one, begins, communication.end)
        if pause is None:
            if communication.kind in _BETWEEN_TWO:
                # Recorded until somebody asked for it, who then did not have to wait.
                communication.end = min(communication.end, communication.travels + _SHORTEST)
            continue
        waits.append(pause)
        travels = min(max(communication.travels, pause[0]), pause[1])
        lane.idle.append((pause[0], travels))
        lane.exposed.append((travels, pause[1]))
    lane.exposed = _united(lane.exposed)
    lane.idle = list(_without(_united(lane.idle), lane.exposed))
    lane.phases = list(_phases(one, _united(waits)))
    return lane


def _pause(one: Recorded, begins: Sequence[float], moment: float) -> Span | None:
    """The pause of the computing thread that ended at this moment, or a little earlier; None if it was at work."""
    place = bisect_right(begins, moment - _CLOCK)
    longest: Span | None = None
    while place >= 0:
        begin = one.operators[place - 1][1] if place else one.step[0]
        following = begins[place] if place < len(begins) else one.step[1]
        if following < moment - _LATE:
            break
        end = min(following, moment)
        if end > begin and (longest is None or end - begin > longest[1] - longest[0]):
            longest = (begin, end)
        place -= 1
    return longest


def _without(spans: Iterable[Span], taken: Sequence[Span]) -> Iterator[Span]:
    """What of `spans` does not overlap with `taken`; both united."""
    for begin, end in spans:
        rest = begin
        for other_begin, other_end in taken:
            if other_end <= rest or other_begin >= end:
                continue
            if other_begin > rest:
                yield rest, other_begin
            rest = other_end
        if rest < end:
            yield rest, end


def _phases(one: Recorded, waits: Sequence[Span]) -> Iterator[tuple[str, float, float]]:
    """Computing in spans of one phase each, divided by what is waited for."""
    starts = [begin for begin, _ in one.backward]
    spans: list[tuple[str, float, float]] = []
    for begin, end in one.operators:
        place = bisect_right(starts, begin) - 1
        is_backward = place >= 0 and begin < one.backward[place][1]
        phase = "backward" if is_backward else "update" if begin >= one.update else "forward"
        if spans and spans[-1][0] == phase:
            spans[-1] = (phase, spans[-1][1], end)
        else:
            spans.append((phase, begin, end))
    for phase, begin, end in spans:
        for piece in _without([(begin, end)], waits):
            if piece[1] - piece[0] >= _CLOCK:
                yield (phase, *piece)


def seconds(spans: Iterable[Span]) -> float:
    """Of all of them together."""
    return sum(end - begin for begin, end in spans)
