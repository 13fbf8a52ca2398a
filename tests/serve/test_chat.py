from collections.abc import Iterator

import pytest
import torch

from groundup.errors import UserError
from groundup.serve.chat import AnswerSettings, Chat
from groundup.serve.generate import Reading, generate_ids
from groundup.serve.sampling import Sampling
from groundup.tokenizer.templates import with_template
from groundup.tokenizer.turns import encode_prompt

from ..chatting import BASE, TOKENIZER, random_model, reciting_model

GREEDY = Sampling(temperature=0)
END = TOKENIZER.special_tokens["<|im_end|>"]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


class Counting:
    """A model that writes down how many tokens each pass reads."""

    def __init__(self, model: torch.nn.Module):
        self.passes: list[int] = []
        model.register_forward_pre_hook(lambda _, arguments: self.passes.append(arguments[0].shape[1]))


@pytest.fixture
def chat() -> Chat:
    return Chat(random_model(), TOKENIZER, "model")


def test_answers_are_those_of_generation_from_the_template(chat: Chat) -> None:
    messages = [user("Hello"), assistant("Hi"), user("Again?")]
    sampling = Sampling(temperature=1.0, top_k=0)
    answer = chat.answer(messages, AnswerSettings(sampling, 20, seed=3))
    ids = generate_ids(chat.model, encode_prompt(TOKENIZER, messages), 20, sampling, 3, chat.stop)
    assert "".join(answer) == TOKENIZER.decode(ids) != ""


@pytest.mark.parametrize("seed", range(3))
def test_a_kept_cache_gives_what_a_fresh_one_gives(chat: Chat, seed: int) -> None:
    """Turn after turn, and with less computation."""
    settings, counting = AnswerSettings(Sampling(1.0, top_k=0), 8, seed), Counting(chat.model)
    reading, messages = chat.new_reading(), []
    for question in ("One?", "Two", "three!"):
        messages.append(user(question))
        counting.passes.clear()
        kept = "".join(chat.answer(messages, settings, reading))
        num_kept, _ = sum(counting.passes), counting.passes.clear()
        assert kept == "".join(chat.answer(messages, settings))
        assert num_kept <= sum(counting.passes) - (0 if len(messages) == 1 else 10)
        messages.append(assistant(kept))


def test_the_space_before_an_answer_is_the_templates() -> None:
    """`plain` ends its header at the colon: the model writes the space, the template renders it."""
    plain = with_template(BASE, "plain")
    asked = [user("Hi")]
    num_prompt = len(encode_prompt(plain, asked))
    recited = "x" * (num_prompt - 1) + " yes, yes.<|endoftext|>" + "z" * 60
    chat = Chat(reciting_model(recited), plain, "model")
    reading = chat.new_reading()
    answer = chat.answer(asked, AnswerSettings(GREEDY, 20), reading)
    assert ("".join(answer), answer.ended) == ("yes, yes.", True)
    following = encode_prompt(plain, [*asked, assistant("yes, yes."), user("?")])
    assert following[: num_prompt + 10] == [*encode_prompt(plain, asked), *plain.encode_ordinary(" yes, yes.")]
    counting = Counting(chat.model)
    "".join(chat.answer([*asked, assistant("yes, yes."), user("?")], AnswerSettings(GREEDY, 1), reading))
    assert counting.passes == [len(following) - num_prompt - 10]


@pytest.mark.parametrize(
    ("template", "written", "text"),
    [("plain", "  two", " two"), ("plain", "none", "none"), ("plain", " ", ""), ("chatml", " kept", " kept")],
)
def test_only_the_templates_space_is_left_out(template: str, written: str, text: str) -> None:
    tokenizer = with_template(BASE, template)
    num_prompt = len(encode_prompt(tokenizer, [user("Hi")]))
    end = tokenizer.usage.roles["eos_token"]
    chat = Chat(reciting_model("x" * (num_prompt - 1) + written + end + "z" * 40), tokenizer, "model")
    assert "".join(chat.answer([user("Hi")], AnswerSettings(GREEDY, 20))) == text


def test_what_was_read_is_kept_as_far_as_it_is_the_same() -> None:
    model = random_model()
    reading, counting = Reading(model), Counting(model)
    ids = list(range(20))
    for changed in (ids, [*ids, 50], ids[:12], [*ids[:7], 99, 98], ids, ids, [33]):
        fresh = Reading(random_model()).logits(changed)
        torch.testing.assert_close(reading.logits(changed), fresh, rtol=1e-5, atol=1e-5)
        assert reading.ids == changed
    # At least the last token is read, for its logits.
    assert counting.passes == [20, 1, 1, 2, 13, 1, 1]


def test_an_interrupted_pass_leaves_nothing_wrong() -> None:
    model = random_model()
    reading = Reading(model)
    reading.logits([1, 2, 3])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # The first layer has stored the new tokens then, the second one has not.
    handle = model.blocks[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        reading.logits([1, 2, 3, 4, 5])
    handle.remove()
    expected = Reading(random_model()).logits([1, 2, 3, 4, 6])
    torch.testing.assert_close(reading.logits([1, 2, 3, 4, 6]), expected, rtol=1e-5, atol=1e-5)


def test_an_answer_ends_with_the_turn_or_is_cut() -> None:
    num_prompt = len(encode_prompt(TOKENIZER, [user("Hi")]))
    chat = Chat(reciting_model("x" * (num_prompt - 1) + "Good day.<|im_end|>" + "y" * 40), TOKENIZER, "model")
    answer = chat.answer([user("Hi")], AnswerSettings(GREEDY, 20))
    assert ("".join(answer), answer.ended) == ("Good day.", True)
    answer = chat.answer([user("Hi")], AnswerSettings(GREEDY, 4))
    assert ("".join(answer), answer.ended) == ("Good", False)


def test_an_answer_stays_within_the_context() -> None:
    chat = Chat(reciting_model("z" * 64), TOKENIZER, "model")
    num_prompt = len(encode_prompt(TOKENIZER, [user("Hi")]))
    answer = chat.answer([user("Hi")], AnswerSettings(GREEDY, 1000))
    assert ("".join(answer), answer.ended) == ("z" * (64 - num_prompt), False)


def turns(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield from (user(f"question {number}"), assistant(f"answer {number}"))


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_the_oldest_turns_are_left_out(system: list[dict[str, str]]) -> None:
    """As few as have to be; the system's message stays."""
    chat, settings = Chat(random_model(256), TOKENIZER, "model"), AnswerSettings(GREEDY, 20)
    messages = [*system, *turns(9), user("and now?")]
    answer = chat.answer(messages, settings)
    kept = messages[len(system) + answer.left_out :]
    assert answer.left_out > 0
    assert kept[0]["role"] == "user"
    assert "".join(answer) == "".join(chat.answer([*system, *kept], settings))
    with_one_more = messages[len(system) + answer.left_out - 2 :]
    assert len(encode_prompt(TOKENIZER, [*system, *kept])) <= 236
    assert len(encode_prompt(TOKENIZER, [*system, *with_one_more])) > 236


def test_a_message_that_is_too_long_is_refused(chat: Chat) -> None:
    with pytest.raises(UserError, match="shorten it"):
        chat.answer([*turns(2), user("long " * 100)], AnswerSettings(GREEDY, 20))


def test_a_model_without_template_is_sent_to_sft() -> None:
    with pytest.raises(UserError, match=r"runs/base has no chat template.*groundup sft runs/base"):
        Chat(random_model(), BASE, "runs/base")
