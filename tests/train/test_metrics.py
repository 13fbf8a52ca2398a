import json
import os
import subprocess
import sys
from pathlib import Path

from groundup.train.metrics import MetricsWriter

_KILLED = """
import os, signal, sys
from pathlib import Path
from groundup.train.metrics import MetricsWriter
metrics = MetricsWriter(Path(sys.argv[1]))
for step in range(5):
    metrics.write(step=step, loss=0.1 * step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_rows_are_appended_as_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for session in range(2):
        with MetricsWriter(file) as metrics:
            metrics.write(step=session, text="中\n", loss=1 / 3)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert rows == [{"step": session, "text": "中\n", "loss": 1 / 3} for session in range(2)]


def test_a_killed_process_loses_no_row(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    answer = subprocess.run([sys.executable, "-c", _KILLED, str(file)], check=False, env=os.environ)
    assert answer.returncode == -9
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 1, 2, 3, 4]
