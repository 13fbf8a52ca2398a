"""The process of one trial: reads a job from standard input, writes what it found to standard output."""

import ctypes
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from groundup.errors import UserError
from groundup.pipeline import bench_profile, bench_step
from groundup.pipeline.bench_process import Trial

# Of Linux, <sys/prctl.h>.
_SET_SIGNAL_OF_PARENTS_DEATH = 1
_FIRST_TO_BE_KILLED = "1000"


def main() -> None:
    """Do the one job; what a trial can fail of becomes an `error` of one line."""
    answer = _own_output()
    job = json.loads(sys.stdin.read())
    _live_no_longer_than(job["parent"])
    try:
        found = _do(job)
    except UserError as error:
        found = {"error": str(error)}
    except (MemoryError, torch.OutOfMemoryError):
        found = {"error": "out of memory"}
    except Exception as error:
        traceback.print_exc()
        found = {"error": _in_one_line(error)}
    json.dump(found, answer)
    answer.flush()


def _do(job: dict[str, Any]) -> dict[str, Any]:
    trial = Trial.from_json(job["trial"])
    if job["kind"] == "profile":
        return bench_profile.record(trial, job["seconds"], Path(job["timeline"]))
    return bench_step.measure(trial, job["seconds"])


def _own_output() -> TextIO:
    """Standard output for the answer alone; whatever else prints goes to standard error."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def _live_no_longer_than(parent: int) -> None:
    """End with the parent, even if that is killed; and where memory runs out, be what the system ends first."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that asked for this trial is gone")


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "can't allocate memory" in text:
        return "out of memory"
    return f"{type(error).__name__}: {text[:200]}"


if __name__ == "__main__":
    main()
