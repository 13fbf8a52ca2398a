from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from groundup.studio.tokens import render_comparison, render_trace, trace_facts
from groundup.studio.vocabulary import visible
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.definition import Definition
from groundup.tokenizer.statistics import Tally, figures
from groundup.tokenizer.trace import Piece, trace

from .test_report import LEAST_CONTRAST

TEXT = "lowest newer lower\n天地玄黄<|endoftext|> lowest 🙂"
HOSTILE = '<script>window.broken = 1</script> </script><img src=x onerror="window.broken = 1"> {{ 7 * 7 }}'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["low lower lowest newest newer 天地玄黄 天地"] * 20, 300)


@pytest.fixture(scope="module")
def definition(tokenizer: Tokenizer) -> Definition:
    return tokenizer.definition


@pytest.fixture(scope="module")
def pieces(definition: Definition) -> list[Piece]:
    return trace(definition, TEXT)


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory: pytest.TempPathFactory, definition: Definition, pieces: list[Piece]) -> Path:
    file = tmp_path_factory.mktemp("pages") / "trace.html"
    file.write_text(render_trace("my <tokenizer>", pieces, definition), "utf-8")
    return file


@pytest.fixture(scope="module")
def comparison_file(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    rows = []
    for name, compared in (("small <b>", tokenizer), ("bytes/only", Tokenizer.train(["a"], 257))):
        tally = Tally(compared)
        tally.add([TEXT.encode(), b"more text, 2026"])
        row = figures(tally)
        sources = [{"source": source, "bytes": 9, "bytes_per_token": 1.5} for source in ("a.txt", HOSTILE)]
        rows.append({"name": name} | row | {"by_source": sources})
    file = tmp_path_factory.mktemp("pages") / "comparison.html"
    file.write_text(render_comparison(rows), "utf-8")
    return file


@pytest.fixture
def page(trace_file: Path, browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(trace_file.as_uri())
        yield page


def standing(page: Page) -> list[str]:
    """The symbols of the moment, from left to right."""
    script = "all => all.sort((a, b) => a.offsetLeft - b.offsetLeft).map(block => block.textContent)"
    return page.locator(".block.standing").evaluate_all(script)


def shown(symbols: list[bytes]) -> list[str]:
    return [f"{symbol[0]:02X}" if len(symbol) == 1 else visible(symbol) for symbol in symbols]


def test_the_tokens_on_the_page_are_those_of_the_text(page: Page, tokenizer: Tokenizer):
    ids = tokenizer.encode(TEXT, allowed_special="all")
    assert page.locator(".tokens button").all_text_contents() == [visible(tokenizer.token_bytes(n)) for n in ids]
    assert page.locator(".cells .id").all_text_contents() == [str(number) for number in ids]
    hexadecimal = "".join(page.locator(".cells .hexadecimal").all_text_contents())
    assert bytes.fromhex(hexadecimal) == TEXT.encode()


def test_one_steps_through_the_merges(page: Page, pieces: list[Piece]):
    piece = pieces[0]
    page.locator("button.token").first.click()
    slider, forward = page.get_by_label("Step", exact=True), page.get_by_label("One step forward")
    assert slider.get_attribute("max") == str(len(piece.steps))
    states = [shown(state) for state in piece.states()]
    assert standing(page) == states[-1]
    assert forward.is_disabled()
    slider.fill("0")
    for number, state in enumerate(states):
        assert standing(page) == state
        assert f"Step {number} of {len(piece.steps)}" in page.locator(".said").inner_text()
        if number:
            assert page.locator(".block.new").count() == 1
            assert f"rank {piece.steps[number - 1].rank}" in page.locator(".said").inner_text()
            page.get_by_label("One step back").click()
            assert standing(page) == states[number - 1]
            forward.click()
        if number < len(piece.steps):
            assert page.locator(".block.next").count() == 2
            forward.click()


def test_a_block_spans_its_bytes_and_stands_on_its_parts(page: Page, definition: Definition, pieces: list[Piece]):
    page.locator("button.token").first.click()
    merges = trace_facts("", pieces, definition)["pieces"][0]["merges"]
    boxes = page.locator(".block:not(.byte):not(.character)").evaluate_all(
        "all => all.map(block => block.getBoundingClientRect().toJSON())"
    )
    bytes_ = page.locator(".block.byte").evaluate_all(
        "all => all.map(block => block.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == len(merges)
    for box, merge in zip(boxes, merges, strict=True):
        assert box["left"] == pytest.approx(bytes_[merge["start"]]["left"], abs=1)
        assert box["right"] == pytest.approx(bytes_[merge["end"] - 1]["right"], abs=1)
        assert all(box["bottom"] < byte["top"] + 1 for byte in bytes_[merge["start"] : merge["end"]])


def test_it_plays_to_the_end(page: Page, pieces: list[Piece]):
    page.clock.install()
    page.locator("button.token").first.click()
    page.get_by_role("button", name="Play").click()
    assert page.get_by_role("button", name="Pause").is_visible()
    page.clock.run_for(1000 * (len(pieces[0].steps) + 2))
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    assert standing(page) == shown(pieces[0].tokens)


def test_every_piece_can_be_chosen(page: Page, pieces: list[Piece]):
    page.locator("button.token").first.click()
    distinct = list(dict.fromkeys(pieces))
    for number, piece in enumerate(distinct):
        said = page.locator(".said").inner_text()
        assert ("special token" in said) == (piece.kind == "special")
        expected = [visible(piece.data)] if piece.kind == "special" else shown(piece.tokens)
        assert standing(page) == expected
        characters = "".join(page.locator(".block.character").all_text_contents())
        assert characters == visible(piece.data)
        following = page.get_by_role("button", name="Next piece")
        assert following.is_disabled() == (number == len(distinct) - 1)
        if not following.is_disabled():
            following.click()


def test_pages_are_silent_and_fit(trace_file: Path, comparison_file: Path, open_report: Callable[[Path], Any]):
    for file in (trace_file, comparison_file):
        report = open_report(file)
        for summary in report.page.locator("summary").all():
            summary.click()
        for scheme in ("light", "dark"):
            report.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            ratio, text = report.page.evaluate(LEAST_CONTRAST)
            assert ratio >= 4.5, f"{text} in {scheme}"
        for width in (1920, 1280, 420, 360):
            report.page.set_viewport_size({"width": width, "height": 900})
            assert report.page.evaluate("document.documentElement.scrollWidth") <= width
        assert report.page.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
        report.assert_silent()


def test_the_comparison_shows_the_figures(
    tokenizer: Tokenizer, comparison_file: Path, open_report: Callable[[Path], Any]
):
    page = open_report(comparison_file).page
    row = page.locator('tr[data-field="bytes_per_token"] data')
    values = [float(value) for value in row.evaluate_all("all => all.map(data => data.value)")]
    assert values[1] == 1.0 < values[0]
    assert page.locator('tr[data-field="vocabulary_size"] td').all_inner_texts() == [
        str(tokenizer.vocabulary_size),
        "257",
    ]
    assert page.get_by_role("heading", name="small <b>").count() == 1
    assert HOSTILE in page.locator("th[scope=row]").all_text_contents()
    assert page.evaluate("window.broken") is None


def test_hostile_text_is_shown_as_text(definition: Definition, tmp_path: Path, open_report: Callable[[Path], Any]):
    file = tmp_path / "trace.html"
    file.write_text(render_trace(HOSTILE, trace(definition, HOSTILE), definition), "utf-8")
    report = open_report(file)
    assert "".join(report.page.locator(".tokens button").all_text_contents()) == HOSTILE.replace(" ", "␣")
    for _ in range(8):
        report.page.get_by_role("button", name="Next piece").dispatch_event("click")
    assert report.page.locator("img").count() == 0
    assert report.page.evaluate("window.broken") is None
    report.assert_silent()


def test_an_empty_text(definition: Definition, tmp_path: Path, open_report: Callable[[Path], Any]):
    file = tmp_path / "trace.html"
    file.write_text(render_trace("empty", [], definition), "utf-8")
    report = open_report(file)
    assert report.page.get_by_text("The text is empty.").is_visible()
    report.assert_silent()
