"""Starting the processes of a run on this machine: torchrun, inside this process, so that it speaks one line.

`groundup train --nproc N` does what `torchrun --standalone --nproc-per-node N --no-python groundup train` does,
and turns torchrun's reports into an exit code and, where there is something to tell, an error of one line.
"""

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from groundup.errors import UserError
from groundup.processor import cores_for

# The file into which a process writes what the user can mend, for the starting process to tell it once: with
# restarts several would.
_REFUSAL = "GROUNDUP_REFUSAL"
# When the starting process began, in seconds since the epoch: the budget's clock runs from there.
_STARTED = "GROUNDUP_STARTED"
_PR_SET_PDEATHSIG = 1
# A stopped run saves; so long torchrun waits before it kills.
_SECONDS_TO_SAVE = 120
_GROUNDUP = "import sys; from groundup.cli.main import main; sys.exit(main())"


def start_processes(arguments: list[str], count: int, max_restarts: int, folder: Path) -> int:
    """Run `groundup ARGUMENTS` in `count` processes until they end; the exit code.

    Where one dies, torchrun starts all of them anew, up to `max_restarts` times; they go on from the last
    checkpoint in `folder`. Raises UserError for what they refused, and where one died once too often.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)
    # Threads are set again once the processes run; this is what their libraries start with.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores_for(count)))
    with TemporaryDirectory(prefix="groundup-") as logs:
        refusal = Path(logs) / "refusal"
        os.environ[_REFUSAL] = str(refusal)
        os.environ[_STARTED] = str(psutil.Process().create_time())
        options = [
            "--standalone",
            f"--nproc-per-node={count}",
            f"--max-restarts={max_restarts}",
            f"--shutdown-timeout={_SECONDS_TO_SAVE}",
            f"--log-dir={logs}",
            "--no-python",
        ]
        try:
            torchrun.run(torchrun.parse_args([*options, sys.executable, "-P", "-c", _GROUNDUP, *arguments]))
        except SignalException as stop:
            return 128 + int(stop.sigval)
        except ChildFailedError as failed:
            if refusal.is_file():
                raise UserError(refusal.read_text("utf-8")) from None
            rank, failure = failed.get_first_failure()
            return _explain(rank, int(failure.exitcode), count, folder)
    return 0


def started_at() -> float | None:
    """When the process began that started this one, in seconds since the epoch."""
    return float(os.environ[_STARTED]) if _STARTED in os.environ else None


def end_with_parent() -> None:
    """Let a process that another one started be told to stop when that one is killed (Linux)."""
    if _REFUSAL in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def refused_before() -> bool:
    """Whether a process of this run has already refused it: to try again would be for nothing."""
    return _REFUSAL in os.environ and Path(os.environ[_REFUSAL]).is_file()


def refuse(message: str) -> bool:
    """Leave `message` to the starting process, if there is one that tells it."""
    if _REFUSAL not in os.environ:
        return False
    Path(os.environ[_REFUSAL]).write_text(message, "utf-8")
    return True


def _explain(rank: int, exit_code: int, count: int, folder: Path) -> int:
    """The exit code of a process that was stopped by a signal and saved; UserError for one that died."""
    if exit_code in {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        return exit_code
    how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with code {exit_code}"
    cause = " (out of memory?)" if exit_code == -signal.SIGKILL else ""
    raise UserError(
        f"process {rank} of {count} {how}{cause}; continue with the same command and --out {folder}; "
        "--max-restarts 3 would have the run go on by itself"
    )
