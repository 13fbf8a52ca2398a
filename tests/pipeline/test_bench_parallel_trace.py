"""When processes compute and wait: traces written by hand, with times that can be read off them."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.pipeline.bench_parallel_trace import STEP, Recorded, align, read, resolve, seconds

MAIN, SENDER = 1, 2
BACKWARD = "autograd::engine::evaluate_function: X"


def written(folder: Path, name: str, events: list[tuple[str, int, float, float]], **inputs: Any) -> Path:
    """A trace of (name, thread, begin, end) in milliseconds."""
    rows = [
        {"ph": "X", "name": event, "tid": thread, "ts": 1000 * begin, "dur": 1000 * (end - begin), "args": inputs}
        for event, thread, begin, end in events
    ]
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"baseTimeNanoseconds": 0, "traceEvents": rows}))
    return file


def aligned(*recorded: Recorded) -> None:
    groups = [{"shard": "all", "pipeline": "all"}] * len(recorded)
    align(recorded, groups, [{"shard": rank, "pipeline": rank} for rank in range(len(recorded))])


def test_a_process_that_is_early_is_idle_until_the_last_one_comes(tmp_path: Path) -> None:
    records = [("all-reduce", "shard", 1000)]
    early = written(tmp_path, "early", [
        (STEP, MAIN, 0, 100), ("aten::mm", MAIN, 0, 40), ("c10d::allreduce_", MAIN, 40, 41),
        ("gloo:all_reduce", SENDER, 41, 90), ("aten::add", MAIN, 90, 100),
    ])  # fmt: skip
    late = written(tmp_path, "late", [
        (STEP, MAIN, 0, 100), ("aten::mm", MAIN, 0, 70), ("c10d::allreduce_", MAIN, 70, 71),
        ("gloo:all_reduce", SENDER, 71, 90), ("aten::add", MAIN, 90, 100),
    ])  # fmt: skip
    one, other = read(early, records), read(late, records)
    aligned(one, other)
    assert seconds(resolve(one).idle) == pytest.approx(0.030)
    assert seconds(resolve(one).exposed) == pytest.approx(0.019)
    assert seconds(resolve(other).idle) == 0
    assert seconds(resolve(other).exposed) == pytest.approx(0.019)


def test_what_travels_behind_computing_is_not_exposed(tmp_path: Path) -> None:
    file = written(tmp_path, "hidden", [
        (STEP, MAIN, 0, 100), ("aten::mm", MAIN, 0, 30), (BACKWARD, MAIN, 30, 80), ("aten::mm", MAIN, 30, 50),
        ("c10d::allreduce_", MAIN, 50, 51), ("gloo:all_reduce", SENDER, 51, 70), ("aten::mm", MAIN, 51, 80),
        ("aten::_fused_adamw_", MAIN, 80, 100),
    ])  # fmt: skip
    one = read(file, [("all-reduce", "shard", 1000)])
    aligned(one)
    lane = resolve(one)
    assert (lane.idle, lane.exposed) == ([], [])
    assert [phase for phase, *_ in lane.phases] == ["forward", "backward", "update"]
    assert [round(1000 * begin) for _, begin, _ in lane.phases] == [0, 30, 80]


def test_a_receiver_is_idle_until_its_own_sender_sends(tmp_path: Path) -> None:
    sender = written(tmp_path, "sender", [
        (STEP, MAIN, 0, 100), ("aten::mm", MAIN, 0, 60), ("c10d::send", MAIN, 60, 61),
        ("gloo:send", MAIN, 61, 95), ("aten::mm", MAIN, 61, 100),
    ], **{"Concrete Inputs": ["", "", "1", "0"]})  # fmt: skip
    receiver = written(tmp_path, "receiver", [
        (STEP, MAIN, 0, 100), ("c10d::recv_", MAIN, 0, 1), ("gloo:recv", MAIN, 1, 65), ("aten::mm", MAIN, 65, 100),
    ], **{"Concrete Inputs": ["", "", "0", "0"]})  # fmt: skip
    one, other = read(sender, [("send", "pipeline", 1000)]), read(receiver, [])
    aligned(one, other)
    lane = resolve(other)
    assert seconds(lane.idle) == pytest.approx(0.060)
    assert seconds(lane.exposed) == pytest.approx(0.004)
    assert seconds(resolve(one).idle) == seconds(resolve(one).exposed) == 0
    # The record of the send goes on until somebody asks for it; the data has come before.
    assert one.communications[0].end <= 0.0651
