"""The chat page in a browser, on a model that recites and one that says anything."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from groundup.serve.chat import AnswerSettings, Chat
from groundup.serve.sampling import Sampling
from groundup.studio.chat.app import chat_app
from groundup.studio.chat.words import CHINESE, ENGLISH
from groundup.tokenizer.turns import encode_prompt

from ..chatting import TOKENIZER, random_model, reciting_model
from .serving import serving
from .test_report import LEAST_CONTRAST

GREEDY = AnswerSettings(Sampling(temperature=0), max_tokens=400)
HOSTILE = '<script>window.broken = 1</script><img src=x onerror="window.broken = 1">'
Open = Callable[..., Page]


def reciting(first: str) -> Chat:
    """Answers "Hi" with `first`."""
    start = len(encode_prompt(TOKENIZER, [{"role": "user", "content": "Hi"}]))
    text = "x" * (start - 1) + first + "<|im_end|>" + ("." * 19 + "<|im_end|>") * 12
    return Chat(reciting_model(text), TOKENIZER, "runs/my-model")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    with browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900}) as context:

        def opened(address: str) -> Page:
            page = context.new_page()
            page.goto(address)
            return page

        yield opened


def send(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Your message").fill(text)
    page.keyboard.press("Enter")


def test_it_answers_turn_by_turn_and_escapes(open_page: Open) -> None:
    chat = reciting(HOSTILE)
    with serving(chat_app(chat, "127.0.0.1", GREEDY)) as address:
        page, messages = open_page(address), []
        page.on("console", lambda message: messages.append(message.text))
        page.on("request", lambda each: messages.append(each.url) if not each.url.startswith(address) else None)
        send(page, "Hi")
        expect(page.get_by_text("The answer is complete.")).to_be_visible()
        assert page.locator("#messages .text").all_text_contents() == ["Hi", HOSTILE]
        said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": HOSTILE}]
        send(page, "And?")
        expect(page.get_by_text("The answer is complete.")).to_be_visible()
        expected = "".join(chat.answer([*said, {"role": "user", "content": "And?"}], GREEDY))
        assert page.locator("#messages .text").last.text_content() == expected
        assert page.evaluate("window.broken") is None
        assert messages == []


def test_an_answer_can_be_stopped_while_another_tab_goes_on(open_page: Open) -> None:
    """Answers take turns: a long one does not keep the others waiting."""
    chat = Chat(random_model(20_000), TOKENIZER, "model")
    chat.stop = frozenset()
    settings = AnswerSettings(Sampling(temperature=1.0, top_k=0), max_tokens=19_000)
    with serving(chat_app(chat, "127.0.0.1", settings)) as address:
        long, other = open_page(address), open_page(address)
        send(long, "Hi")
        answer = long.locator("#messages .assistant .text")
        expect(answer).not_to_be_empty()
        other.get_by_role("button", name="Sampling").click()
        other.get_by_label("Most tokens").fill("5")
        send(other, "Hi")
        expect(other.get_by_text("Cut off")).to_be_visible()
        before = answer.text_content()
        expect(long.get_by_role("button", name="Stop")).to_be_visible()
        expect(answer).not_to_have_text(before)
        long.get_by_role("button", name="Stop").click()
        expect(long.get_by_text("Stopped.")).to_be_visible()
        stopped = answer.text_content()
        assert 0 < len(stopped) < 19_000
        # What there is of it belongs to the conversation, which goes on.
        expect(long.get_by_role("button", name="Send")).to_be_enabled()
        assert answer.text_content() == stopped


def test_sampling_is_that_of_the_page(open_page: Open) -> None:
    chat = Chat(random_model(256), TOKENIZER, "model")
    with serving(chat_app(chat, "127.0.0.1", GREEDY, "Be brief.")) as address:
        page = open_page(address)
        page.get_by_role("button", name="Sampling").click()
        expect(page.get_by_label("Instruction to the model")).to_have_value("Be brief.")
        for name, value in {
            "Temperature": "0.9",
            "Top-k": "7",
            "Top-p": "0.8",
            "Most tokens": "12",
            "Seed": "5",
        }.items():
            page.get_by_label(name).fill(value)
        send(page, "Hi")
        expect(page.get_by_text("Cut off")).to_be_visible()
        settings = AnswerSettings(Sampling(0.9, 7, 0.8), 12, 5)
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        shown = page.locator("#messages .text").last.text_content()
        assert shown == "".join(chat.answer(messages, settings))
        # What the server refuses is told, and the question can be asked again.
        page.get_by_label("Temperature").evaluate("field => field.max = ''")
        page.get_by_label("Temperature").evaluate("field => field.min = ''")
        page.get_by_label("Temperature").fill("-1")
        send(page, "Again")
        expect(page.get_by_text("is not 0 or more")).to_be_visible()
        expect(page.get_by_role("textbox", name="Your message")).to_have_value("Again")
        page.get_by_role("button", name="New chat").click()
        expect(page.locator("#messages li")).to_have_count(0)


def test_when_the_context_is_full_it_says_what_was_left_out(open_page: Open) -> None:
    chat = Chat(random_model(96), TOKENIZER, "model")
    settings = AnswerSettings(Sampling(temperature=0), max_tokens=10)
    with serving(chat_app(chat, "127.0.0.1", settings)) as address:
        page = open_page(address)
        for number in range(4):
            send(page, f"question {number}")
            expect(page.locator("#messages .assistant")).to_have_count(number + 1)
            expect(page.get_by_role("button", name="Send")).to_be_enabled()
        expect(page.get_by_text("oldest messages were left out").first).to_be_visible()


def test_it_is_readable_fits_and_speaks_chinese(open_page: Open) -> None:
    with serving(chat_app(reciting("long" * 25), "127.0.0.1", GREEDY)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Sampling").click()
        send(page, "Hi")
        expect(page.get_by_text("The answer is complete.")).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            ratio, text = page.evaluate(LEAST_CONTRAST)
            assert ratio >= 4.5, f"{text} in {scheme}"
        for width in (1280, 420, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("textbox", name="您的消息")).to_be_visible()
        expect(page.get_by_text("回答已完成。")).to_be_visible()
        assert ENGLISH.keys() == CHINESE.keys()


def test_the_server_keeps_what_it_read_and_refuses_strangers() -> None:
    """Conversations asked for at once, in several turns, get what a fresh cache gives."""
    chat = Chat(random_model(512), TOKENIZER, "model")
    given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 12, "seed": 3}
    settings = AnswerSettings(Sampling(1.0, 0, 1.0), 12, 3)

    def ask(client: httpx.Client, name: str, messages: list[dict[str, str]]) -> str:
        response = client.post("api/answer", json={"conversation": name, "messages": messages, **given})
        lines = [json.loads(line) for line in response.text.splitlines()]
        assert lines[-1] in ({"end": "ended"}, {"end": "cut off"})
        return "".join(line["piece"] for line in lines[:-1])

    def converse(name: str) -> list[dict[str, str]]:
        messages: list[dict[str, str]] = []
        with httpx.Client(base_url=address, timeout=30) as client:
            for number in range(3):
                messages.append({"role": "user", "content": f"{name} {number}"})
                messages.append({"role": "assistant", "content": ask(client, name, messages)})
        return messages

    with serving(chat_app(chat, "127.0.0.1", settings)) as address:
        with ThreadPoolExecutor(6) as pool:
            conversations = list(pool.map(converse, map(str, range(6))))
        for host in ("evil.example", "127.0.0.1.evil.example"):
            assert httpx.get(address, headers={"Host": host}).status_code == 403
        body = {"conversation": "x", "messages": [{"role": "user", "content": "word " * 200}], **given}
        refused = httpx.post(f"{address}api/answer", json=body)
        assert (refused.status_code, "shorten it" in refused.json()["error"]) == (409, True)
    for messages in conversations:
        for place in (1, 3, 5):
            assert messages[place]["content"] == "".join(chat.answer(messages[:place], settings))
