"""Measures one contender of `tokenizer.py` in a process of its own: `tokenizer_measure.py JOB.json`.

Does what the job says and puts the answer in its place. Linux only, for /proc.
"""

import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer_corpus import JSON_FILE, TIKTOKEN_FILE, Text
from tokenizer_peers import CODERS, FEEDS, TRAINERS, Setting, Task


def _given(text: Text, takes: str) -> Any:
    match takes:
        case "bytes":
            return text.content
        case "str":
            return text.content.decode()
        case "[str]":
            return [text.content.decode()]
        case "documents":
            return text.documents
    ids = np.load(text.path.with_suffix(".ids.npy"))
    return ids if takes == "array" else ids.tolist()


def _memory(field: str) -> int:
    """Bytes of resident memory, now (VmRSS) or at most so far (VmHWM); getrusage would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure_training(job: dict[str, Any], text: Text) -> dict[str, Any]:
    trainer = TRAINERS[job["contender"]]
    feed = FEEDS[trainer.feed](text)
    task = Task(**job["training"])
    import_module(trainer.package)
    _forget_peak()
    before, cpu, began = _memory("VmRSS"), _cpu(), time.perf_counter()
    made = trainer.train(feed, task)
    seconds = time.perf_counter() - began
    answer = {"seconds": seconds, "cpu": _cpu() - cpu, "peak": _memory("VmHWM"), "before": before}
    return answer | {"merges": trainer.merges(made)}


def _measure_coding(job: dict[str, Any], text: Text) -> dict[str, Any]:
    coder = CODERS[job["task"]][job["contender"]]
    size = text.path.stat().st_size
    folder = text.path.parent
    given = _given(text, coder.takes)
    setting = Setting(folder / TIKTOKEN_FILE, folder / JSON_FILE, size, job["threads"])
    began = time.perf_counter()
    function = coder.load(setting)
    loading = time.perf_counter() - began
    seconds: list[float] = []
    while len(seconds) < job["passes"] and (len(seconds) < 2 or sum(seconds) < job["budget"]):
        result = None  # frees the last one outside the measured time
        began = time.perf_counter()
        result = function(given)
        seconds.append(time.perf_counter() - began)
        if len(seconds) == 1:
            np.save(job["made"], _saved(coder.read(result)))
    steady = np.array_equal(np.load(job["made"]), _saved(coder.read(result)))
    return {"loading": loading, "seconds": seconds, "steady": steady}


def _saved(made: Any) -> np.ndarray:
    return np.frombuffer(made, dtype=np.uint8) if isinstance(made, bytes) else made


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    if job["threads"] == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    text = Text(Path(job["text"]))
    measure = _measure_training if job["task"] == "train" else _measure_coding
    path.write_text(json.dumps(measure(job, text)))


if __name__ == "__main__":
    main()
