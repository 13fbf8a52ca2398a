import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.errors import UserError
from groundup.recipe import Recipe, load
from groundup.run import Run, new_folder, newest_unfinished, read_rows, truncate_rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "run-1", Recipe(name="mine", seed=3))


def test_a_run_keeps_its_recipe(run: Run) -> None:
    assert Run.open(run.folder).recipe == Recipe(name="mine", seed=3)
    changed = load("tiny", {"seed": 9})
    run.save_recipe(changed)
    assert Run.open(run.folder).recipe == changed


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    before = run.recipe_file.read_bytes()
    with pytest.raises(UserError, match="already holds a run; continue it with --resume"):
        Run.create(run.folder, Recipe())
    assert run.recipe_file.read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="is not empty and not a run"):
        Run.create(tmp_path / "full", Recipe())
    with pytest.raises(UserError, match="is a file"):
        Run.create(tmp_path / "full" / "file", Recipe())


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", Recipe()).recipe_file.is_file()


def test_a_discarded_run_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the folder of runs, unless others are in it."""
    monkeypatch.chdir(tmp_path)
    first, second = (Run.create(new_folder("mine"), Recipe()) for _ in range(2))
    assert second.folder == Path("runs") / "mine-2"
    first.discard()
    assert sorted(Path().rglob("*.toml")) == [second.recipe_file]
    second.discard()
    assert list(tmp_path.iterdir()) == []
    own = Run.create(tmp_path / "elsewhere" / "run", Recipe())
    own.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run's folder"):
        Run.open(tmp_path)


def test_a_run_is_finished_by_its_outcome(run: Run) -> None:
    assert not run.finished
    assert run.read_json(run.plan_file) == {}
    run.save_plan({"lr": 1e-3})
    assert not run.finished
    run.save_outcome({"bits_per_byte": 1.5})
    assert run.finished
    assert run.read_json(run.outcome_file) == {"bits_per_byte": 1.5}
    assert run.read_json(run.plan_file) == {"lr": 1e-3}


_HOLD = """
import sys
from pathlib import Path
from groundup.run import Run
with Run.open(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_lock_is_free(run: Run) -> None:
    command = [sys.executable, "-c", _HOLD, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="in use by another groundup process"), run.locked():
            pass
        holder.communicate("")
    with run.locked():
        pass


def test_a_killed_process_leaves_no_lock(run: Run) -> None:
    command = [sys.executable, "-c", _HOLD, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        holder.kill()
    with run.locked():
        pass


def test_the_log_has_a_time_in_every_line(run: Run) -> None:
    run.log("first")
    run.log("second 中")
    lines = run.log_file.read_text("utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first", "second 中"]


# --- rows ---


def _write_rows(file: Path, steps: list[int], torn: str = "") -> None:
    file.write_text("".join(json.dumps({"step": step, "text": "中"}) + "\n" for step in steps) + torn, "utf-8")


def test_rows_are_read_back_without_a_torn_last_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert list(read_rows(file)) == []
    for torn in ("", "{", '{"step": 3', '{"step": 3}'):
        _write_rows(file, [1, 2], torn)
        assert [row["step"] for row in read_rows(file)] == [1, 2]


def test_rows_after_a_step_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    _write_rows(file, [1, 2, 2, 3, 4], '{"st')
    truncate_rows(file, 2)
    assert [row["step"] for row in read_rows(file)] == [1, 2, 2]
    with file.open("a") as lines:  # what comes next stands in a line of its own
        lines.write('{"step": 3}\n')
    assert [row["step"] for row in read_rows(file)] == [1, 2, 2, 3]
    truncate_rows(file, 0)
    assert file.read_bytes() == b""
    truncate_rows(tmp_path / "absent.jsonl", 2)
    assert not (tmp_path / "absent.jsonl").exists()


def test_validations_are_dropped_by_a_step_of_their_own(tmp_path: Path) -> None:
    """They come after their step's checkpoint, and are made again with what follows."""
    file = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 1}, {"step": 1, "val_loss": 1}, {"step": 2, "loss": 1}, {"step": 2, "val_loss": 1}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    truncate_rows(file, 2, last_validation=1)
    assert list(read_rows(file)) == rows[:3]


# --- finding runs ---


def test_new_folders_are_not_taken(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        folder = new_folder("mine", tmp_path / "runs")
        assert folder == tmp_path / "runs" / f"mine-{number}"
        folder.mkdir(parents=True)


def test_the_newest_unfinished_run_is_found(tmp_path: Path) -> None:
    runs = [Run.create(tmp_path / f"run-{number}", Recipe()) for number in range(3)]
    for number, run in enumerate(runs):
        os.utime(run.folder, (number, number))
    assert newest_unfinished(tmp_path).folder == runs[2].folder
    runs[2].save_outcome({})
    assert newest_unfinished(tmp_path).folder == runs[1].folder
    for run in runs:
        run.save_outcome({})
    with pytest.raises(UserError, match="no unfinished run in"):
        newest_unfinished(tmp_path)
    with pytest.raises(UserError, match="no unfinished run in"):
        newest_unfinished(tmp_path / "absent")
