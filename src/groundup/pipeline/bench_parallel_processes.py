"""Starting the processes of one measurement, by torch elastic's launcher, and what each of them found."""

import logging
import os
from multiprocessing import set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from groundup.pipeline.bench_parallel_layouts import Candidate
from groundup.pipeline.bench_process import Trial

# Processes are forked off one that has imported this: each import would take seconds.
_PRELOADED = "groundup.pipeline.bench_parallel_worker"


def measure(trial: Trial, candidate: Candidate | None, seconds: float, count: int) -> list[dict[str, Any]]:
    """What each of `count` processes found, by rank; without a candidate, one process alone.

    Where one of them refused or died there is one row, with `error`.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from groundup.pipeline.bench_parallel_worker import work

    set_forkserver_preload([_PRELOADED])
    # Threads are set again once the processes run; this is what their libraries start with.
    os.environ.setdefault("OMP_NUM_THREADS", str(trial.threads))
    logging.disable(logging.CRITICAL)
    own = trial.with_(micro_batch=candidate.layout.micro_batch) if candidate else trial
    job = {
        "trial": own.as_json(),
        "layout": candidate.layout.__dict__ if candidate else {},
        "parallel": candidate.parallel.model_dump() if candidate else {},
        "seconds": seconds,
    }
    with TemporaryDirectory(prefix="groundup-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            start_method="forkserver",
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
        )
        try:
            found: dict[int, dict[str, Any]] = elastic_launch(config, work)(job)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as failed:
            rank, failure = failed.get_first_failure()
            return [
                {"error": f"process {rank} ended with code {failure.exitcode}: {_last_line(Path(logs), rank)}"}
            ]
        finally:
            logging.disable(logging.NOTSET)
    rows = [found[rank] for rank in sorted(found)]
    return [row for row in rows if "error" in row][:1] or rows


def _last_line(logs: Path, rank: int) -> str:
    """What a process said in the end."""
    for file in logs.glob(f"**/{rank}/stderr.log"):
        lines = [line for line in file.read_text("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()
    return "it said nothing"
