import json
from pathlib import Path

from groundup.recipe import Recipe
from groundup.run import Run
from groundup.studio.rounds import rounds_answer, write_rounds

ROUNDS = [
    {"round": number, "reward": 1.0 + number, "kl": 0.5 * number, "beta": 0.05, "length": 9.0, "ended": 0.9}
    for number in range(4)
]
HELD_OUT = [
    {"step": step, "round": step // 4, "reward": 1.0 + step / 4, "reward_std": 0.5, "kl": step / 8, "length": 9.0,
     "ended": 1.0}
    for step in (0, 8, 16)
]  # fmt: skip


def test_the_first_chart_is_reward_against_distance() -> None:
    answer = rounds_answer("ppo-1", ROUNDS, HELD_OUT, {"gain": 8.0, "note": "ended early"})
    frontier = answer.charts[0]
    points, line = frontier.series
    assert (list(points.x), list(points.y), points.points) == ([0.0, 0.5, 1.0, 1.5], [1.0, 2.0, 3.0, 4.0], True)
    assert (list(line.x), list(line.y)) == ([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    assert [figure.value for figure in answer.figures] == [1.0, 5.0, 2.0, 8.0]
    assert answer.notes == ["ended early"]


def test_what_a_stage_does_not_have_is_not_drawn() -> None:
    rejected = [{"round": 0, "reward": 1.0, "best_reward": 2.0, "kl": 0.1, "length": 3.0, "ended": 1.0}]
    charts = rounds_answer("reject-1", rejected, HELD_OUT[:1], {}).charts
    assert [chart.name for chart in charts] == ["frontier", "reward", "kl", "length", "ended"]
    assert [series.name for series in charts[1].series] == ["all answers", "those kept", "held-out prompts"]
    assert [chart.name for chart in rounds_answer("new", [], [], {}).charts] == ["frontier"]


def test_the_page_is_written_beside_the_rows(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "<b>run", Recipe())
    for name, found in (("rounds", ROUNDS), ("heldout", HELD_OUT)):
        (run.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    page = write_rounds(run, {"gain": 8.0}).read_text("utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "Reward against distance" in page
    assert "<b>run" not in page
