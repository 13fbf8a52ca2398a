"""A program that is asked lines and answers with lines, and is not waited for without end."""

import os
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from groundup.train import interrupt

# A program that has written nothing for so long hangs.
_PATIENCE_SECONDS = 600.0
# After Ctrl-C it may finish what it is doing, so that the round is not lost; but not for long.
_GRACE_SECONDS = 10.0
_MOST_BYTES = 64 << 20
_LAST_WORDS_BYTES = 4096
_LOOK_SECONDS = 0.1


class Finished(NamedTuple):
    """What a program wrote; and why that is not to be used, where something went wrong."""

    lines: list[str]
    failure: str | None


def run_program(file: Path, asked: bytes) -> Finished:
    """Start it with `asked` on its standard input, and wait for its end; OSError where it cannot be started.

    It is ended, with what it has started, when it writes nothing for ten minutes, more than 64 MiB, or goes on for
    ten seconds after a signal by which we are to stop; and at once by whatever else ends the waiting.
    """
    with TemporaryFile() as told, TemporaryFile() as output, TemporaryFile() as errors:
        told.write(asked)
        told.seek(0)
        # A session of its own: Ctrl-C is for us, who end the round first.
        program = subprocess.Popen([file], stdin=told, stdout=output, stderr=errors, start_new_session=True)
        try:
            failure = _wait(program, output, errors)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
        if failure is None and program.returncode:
            words = _last_words(errors)
            failure = f"exit code {program.returncode}{f' ({words})' if words else ''}"
        output.seek(0)
        return Finished(output.read(_MOST_BYTES).decode("utf-8", "replace").splitlines(), failure)


def _wait(program: "subprocess.Popen[bytes]", output: IO[bytes], errors: IO[bytes]) -> str | None:
    """Until it ends by itself, or why it shall not go on."""
    written, since, stopped = 0, time.monotonic(), None
    while True:
        try:
            program.wait(_LOOK_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            pass
        now, before = time.monotonic(), written
        written = _size(output) + _size(errors)
        since = now if written > before else since
        if written > _MOST_BYTES:
            return f"it wrote more than {_MOST_BYTES >> 20} MiB"
        if now - since > _PATIENCE_SECONDS:
            return f"it has written nothing for {_PATIENCE_SECONDS:g} seconds"
        if interrupt.is_noted():
            stopped = stopped or now
            if now - stopped > _GRACE_SECONDS:
                return f"it was still busy {_GRACE_SECONDS:g} seconds after the signal to stop"


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(max(0, _size(errors) - _LAST_WORDS_BYTES))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
