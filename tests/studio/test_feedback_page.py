"""The feedback page in a browser: by keyboard alone, two raters at once, in both languages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from groundup.studio.feedback.app import feedback_app
from groundup.studio.feedback.store import Answer, Store

from .feedback_support import ABOUT, judgement, make_store
from .serving import serving
from .test_report import LEAST_CONTRAST

HOSTILE = '<script>window.broken = 1</script><img src=x onerror="window.broken = 1"> {{ 7 * 7 }}'


class Asked:
    """A page of a rater, with what it asked for elsewhere or complained of."""

    def __init__(self, context: BrowserContext, address: str):
        self.page = context.new_page()
        self.messages: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda each: self._note(each.url, address))
        self.page.goto(address)

    def _note(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:")):
            self.elsewhere.append(url)

    def begin(self, name: str) -> None:
        self.page.keyboard.type(name)
        self.page.keyboard.press("Enter")

    def shows(self, number: int) -> None:
        expect(self.page.locator("#prompt")).to_contain_text(f"question {number}")

    def texts(self) -> list[str]:
        return self.page.locator(".answer .text").all_text_contents()

    def assert_silent(self) -> None:
        assert self.messages == self.elsewhere == []


Open = Callable[..., Asked]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Asked]]:
    contexts: list[BrowserContext] = []

    def opened(address: str, **options: object) -> Asked:
        options = {"locale": "en-GB", "viewport": {"width": 1280, "height": 900}} | options
        contexts.append(browser.new_context(**options))
        return Asked(contexts[-1], address)

    yield opened
    for context in contexts:
        context.close()


@contextmanager
def asking(store: Store) -> Iterator[str]:
    with store, serving(feedback_app(store, "127.0.0.1")) as address:
        yield address


def test_two_raters_judge_at_once_by_keyboard_alone(tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite", count=4) as store, asking(store) as address:
        anna, bob = open_page(address), open_page(address)
        anna.begin("Anna")
        bob.begin("Bob")
        preferred: dict[str, list[str]] = {"Anna": [], "Bob": []}
        for number in range(4):
            for name, rater, key in (("Anna", anna, "1"), ("Bob", bob, "ArrowRight")):
                rater.shows(number)
                preferred[name].append(rater.texts()[0 if key == "1" else 1])
                rater.page.keyboard.press(key)
        for rater in (anna, bob):
            expect(rater.page.get_by_text("That was all")).to_be_visible()
            rater.assert_silent()
        for name, texts in preferred.items():
            stored = [each for each in store.judgements() if each.rater == name]
            assert [f"answer {each.answer} to question {each.question}" for each in stored] == texts
            assert all(each.verdict == "better" and each.milliseconds < 20_000 for each in stored)
        # What was shown first, to whom, is as it was stored.
        assert {each.answer == each.shown[0] for each in store.judgements() if each.rater == "Anna"} == {True}
        assert {each.answer == each.shown[1] for each in store.judgements() if each.rater == "Bob"} == {True}


def test_every_key_does_what_the_list_of_keys_says(tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite", count=5) as store, asking(store) as address:
        asked = open_page(address)
        page, press = asked.page, asked.page.keyboard.press
        asked.begin("Anna")
        asked.shows(0)
        press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        press("1")  # nothing is judged behind the list
        press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
        press("0")
        asked.shows(1)
        press("b")
        asked.shows(2)
        press("u")
        asked.shows(1)
        press("b")
        asked.shows(2)
        shown = asked.texts()
        press("e")
        expect(page.get_by_text("Which answer do you want to edit?")).to_be_visible()
        press("2")
        editor = page.get_by_role("textbox", name="The text of answer 2")
        expect(editor).to_be_focused()
        expect(editor).to_have_value(shown[1])
        press("Control+Enter")
        expect(page.get_by_text("The text is as it was")).to_be_visible()
        press("End")
        page.keyboard.type(", u e 1")  # letters are text here
        press("Control+Enter")
        asked.shows(3)
        press("e")
        press("Escape")
        press("1")  # a choice again, not the answer to edit
        asked.shows(4)
        # Without its shortcut, a button is reached by Tab and shows that it is.
        page.get_by_role("button", name="Answer 1 is better").focus()
        press("Tab")
        edit = page.get_by_role("button", name="Edit answer 1")
        expect(edit).to_be_focused()
        assert edit.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
        press("Shift+Tab")
        press("Enter")
        expect(page.get_by_text("That was all")).to_be_visible()
        verdicts = [each.verdict for each in store.judgements()]
        assert verdicts == ["tie", "bad", "edit", "better", "better"]
        assert store.judgements()[2].text == f"{shown[1]}, u e 1"
        assert len(store.judgements(undone=True)) == 1
        asked.assert_silent()


def test_ratings_by_keyboard(tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite", count=2, ask="rating") as store, asking(store) as address:
        asked = open_page(address)
        asked.begin("Anna")
        for number, keys in enumerate((["4", "2"], ["ArrowRight", "5", "1"])):
            asked.shows(number)
            for key in keys:
                asked.page.keyboard.press(key)
        expect(asked.page.get_by_text("That was all")).to_be_visible()
        first, second = store.judgements()
        assert [first.ratings[place] for place in first.shown] == [4, 2]
        assert [second.ratings[place] for place in second.shown] == [1, 5]
        asked.assert_silent()


def test_a_judgement_whose_acknowledgement_is_lost_is_sent_again(tmp_path: Path, open_page: Open) -> None:
    """The server has stored it, the page does not know: it repeats it, and it is there once."""
    with make_store(tmp_path / "f.sqlite", count=2) as store, asking(store) as address:
        asked = open_page(address)
        asked.begin("Anna")
        asked.shows(0)
        lost: list[int] = []

        def lose(route: Route) -> None:
            if lost:
                route.continue_()
                return
            lost.append(route.fetch().status)
            route.abort()

        asked.page.route("**/api/judgements*", lose)
        asked.page.keyboard.press("1")
        expect(asked.page.get_by_text("Trying again")).to_be_visible()
        asked.shows(1)
        assert lost == [200]
        assert len(store.judgements()) == 1
        # The name is kept in the browser.
        asked.page.reload()
        asked.shows(1)
        expect(asked.page.get_by_text("1 of 2 judged")).to_be_visible()


def test_a_page_that_is_still_open_judges_no_other_file(tmp_path: Path, open_page: Open) -> None:
    """Its server ends while it sends, and another file's is started at the same address."""
    with make_store(tmp_path / "f.sqlite") as store, make_store(tmp_path / "g.sqlite") as other:
        with serving(feedback_app(store, "127.0.0.1")) as address:
            asked = open_page(address, locale="zh-CN")
            asked.begin("Anna")
            asked.shows(0)
        page, port = asked.page, int(address.rstrip("/").rpartition(":")[2])
        page.keyboard.press("1")
        expect(page.get_by_text("尚未保存：服务器没有回应")).to_be_visible()
        with serving(feedback_app(other, "127.0.0.1"), port):
            expect(page.get_by_text("这里现在问的是另一组问题")).to_be_visible()
            expect(page.get_by_text("未保存：您的上一次评判")).to_be_visible()
            page.get_by_role("button", name="English").press("Enter")
            expect(page.get_by_text("Other questions are asked here now")).to_be_visible()
            page.reload()
            expect(page.get_by_text("Not saved: your last judgement was")).to_be_visible()
            asked.shows(0)
            assert store.judgements() == other.judgements() == []
        # With the former file it is stored after all.
        with serving(feedback_app(store, "127.0.0.1"), port):
            page.reload()
            asked.shows(1)
            assert [each.question for each in store.judgements()] == [0]


def test_what_does_not_belong_here_is_refused(tmp_path: Path) -> None:
    with make_store(tmp_path / "f.sqlite") as store, asking(store) as address:
        rating = judgement("anna", 0, "ratings", ratings=[1, 2]).model_dump()
        tie = judgement("anna", 0, "tie").model_dump()
        statuses = [
            httpx.post(f"{address}api/judgements", params=given, json=body).status_code
            for given, body in (
                ({"session": store.session()}, rating),
                ({"session": "another"}, tie),
                ({}, tie),
                ({"session": store.session()}, tie | {"milliseconds": 1 << 63}),
            )
        ]
        assert statuses == [409, 409, 422, 422]
        assert store.judgements() == []


def test_a_judgement_waits_for_a_file_that_cannot_be_used(tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite") as store, asking(store) as address, Store(store.path) as other:
        store._connection.execute("PRAGMA busy_timeout=10")
        asked = open_page(address)
        asked.begin("Anna")
        asked.shows(0)
        with other._writing():
            asked.page.keyboard.press("1")
            expect(asked.page.get_by_text("database is locked")).to_be_visible()
        asked.shows(1)
        assert len(store.judgements()) == 1


def test_the_page_says_why_no_answers_are_written(tmp_path: Path, open_page: Open) -> None:
    store = Store(tmp_path / "f.sqlite")
    store.begin(ABOUT, [[{"role": "user", "content": "question 0"}]])
    with store, serving(feedback_app(store, "127.0.0.1", lambda: "no memory")) as address:
        asked = open_page(address)
        asked.begin("Anna")
        expect(asked.page.get_by_text("No further answers are written: no memory")).to_be_visible()


def test_the_page_waits_for_answers_that_are_still_written(tmp_path: Path, open_page: Open) -> None:
    store = Store(tmp_path / "f.sqlite")
    store.begin(ABOUT, [[{"role": "user", "content": "question 0"}]])
    with asking(store) as address:
        asked = open_page(address)
        asked.begin("Anna")
        expect(asked.page.get_by_text("The model is writing the next answers")).to_be_visible()
        store.answer(0, [Answer("one"), Answer("two")])
        asked.shows(0)


def test_model_text_is_shown_as_text(tmp_path: Path, open_page: Open) -> None:
    store = Store(tmp_path / "f.sqlite")
    store.begin(ABOUT, [[{"role": "user", "content": HOSTILE}]])
    store.answer(0, [Answer(HOSTILE), Answer("</section><b>two</b>")])
    with asking(store) as address:
        asked = open_page(address)
        asked.begin(HOSTILE)
        expect(asked.page.locator("#prompt .text")).to_have_text(HOSTILE)
        assert sorted(asked.texts()) == sorted([HOSTILE, "</section><b>two</b>"])
        asked.page.keyboard.press("1")
        expect(asked.page.get_by_text("That was all")).to_be_visible()
        asked.page.get_by_text("Everybody's progress").click()
        expect(asked.page.locator("#all tbody th")).to_have_text(HOSTILE[:80].strip())
        assert asked.page.locator("img, b").count() == 0
        assert asked.page.evaluate("window.broken") is None
        asked.assert_silent()


def test_it_speaks_the_language_of_the_browser_and_the_other_one(tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite") as store, asking(store) as address:
        asked = open_page(address, locale="zh-CN")
        page = asked.page
        expect(page.get_by_label("您的名字")).to_be_focused()
        asked.begin("李雷")
        asked.shows(0)
        assert page.locator("html").get_attribute("lang") == "zh-Hans"
        expect(page.get_by_role("button", name="回答 1 更好")).to_be_visible()
        page.keyboard.press("0")
        asked.shows(1)
        expect(page.get_by_text("已评 1 / 3")).to_be_visible()
        page.get_by_role("button", name="English").press("Enter")
        expect(page.get_by_text("1 of 3 judged")).to_be_visible()
        page.reload()  # the choice lasts
        expect(page.get_by_role("button", name="Answer 1 is better")).to_be_visible()
        assert store.judgements()[0].rater == "李雷"
        asked.assert_silent()


@pytest.mark.parametrize("ask", ["choice", "rating"])
def test_it_is_readable_and_fits(ask: str, tmp_path: Path, open_page: Open) -> None:
    with make_store(tmp_path / "f.sqlite", ask=ask) as store, asking(store) as address:
        asked = open_page(address)
        asked.begin("Anna" * 18)
        asked.shows(0)
        asked.page.get_by_text("Everybody's progress").click()
        for scheme in ("light", "dark"):
            asked.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            ratio, text = asked.page.evaluate(LEAST_CONTRAST)
            assert ratio >= 4.5, f"{text} in {scheme}"
        for width in (1280, 420, 320):
            asked.page.set_viewport_size({"width": width, "height": 800})
            assert asked.page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = "all => all.filter(each => !(each.ariaLabel || each.textContent.trim())).length"
        assert asked.page.locator("button").evaluate_all(nameless) == 0
        asked.assert_silent()


def test_a_slow_rater_does_not_block_another(tmp_path: Path, open_page: Open) -> None:
    """While one transaction waits for the disk, questions are still answered."""
    with make_store(tmp_path / "f.sqlite") as store, asking(store) as address:
        asked = open_page(address)
        holding, release = threading.Event(), threading.Event()

        def hold() -> None:
            with Store(store.path) as other, other._writing():
                holding.set()
                release.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        asked.begin("Anna")
        asked.shows(0)  # reading goes on
        asked.page.keyboard.press("1")
        time.sleep(0.3)
        asked.shows(0)  # not acknowledged, so not gone on
        release.set()
        thread.join()
        asked.shows(1)
