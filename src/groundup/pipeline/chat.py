"""`groundup chat`: a conversation in the terminal, or on a page."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from groundup.errors import UserError, nearest
from groundup.files import write_atomically
from groundup.model.folder import load
from groundup.seeds import derive
from groundup.serve.chat import AnswerSettings, Chat
from groundup.train.device import set_threads

HELP = "/reset begins anew, /system TEXT instructs the model, /save FILE keeps the conversation, /quit ends"


def open_chat(source: Path) -> Chat:
    """The model of a run or a model folder, ready to answer; UserError where it was not taught to."""
    set_threads(None)
    loaded = load(source)
    return Chat(loaded.model, loaded.tokenizer, str(source))


class Conversation:
    """What was said to a model so far, and what one may do with it; answers go to `out`, remarks to `notes`."""

    def __init__(self, chat: Chat, settings: AnswerSettings, system: str | None, out: TextIO, notes: TextIO):
        self.messages: list[dict[str, str]] = []
        self._chat, self._settings, self._out, self._notes = chat, settings, out, notes
        self._reading, self._saved = chat.new_reading(), set[Path]()
        self._system = system
        self._commands: dict[str, Callable[[str], None]] = {
            "reset": self._reset,
            "system": self._instruct,
            "save": self._save,
            "help": lambda _: self._note(HELP),
        }
        self._begin()

    def take(self, line: str) -> bool:
        """Answer a line, or do what it commands; False where it ends the conversation."""
        if not line.startswith("/"):
            if line.strip():
                self._answer(line)
            return True
        name, _, rest = line[1:].strip().partition(" ")
        if name == "quit":
            return False
        try:
            if name not in self._commands:
                raise UserError(f"unknown command /{name}{nearest(name, [*self._commands, 'quit'])}")
            self._commands[name](rest.strip())
        except UserError as error:
            self._note(str(error))
        return True

    def _begin(self) -> None:
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def _answer(self, line: str) -> None:
        """Ctrl-C ends the answer; what there is of it stays in the conversation."""
        asked = {"role": "user", "content": line}
        number = sum(message["role"] == "user" for message in self.messages)
        settings = replace(self._settings, seed=derive(self._settings.seed, f"answer {number}"))
        said: list[str] = []
        try:
            answer = self._chat.answer([*self.messages, asked], settings, self._reading)
            if answer.left_out:
                self._note(f"the context is full: the {answer.left_out} oldest messages are left out")
            for piece in answer:
                said.append(piece)
                self._out.write(piece)
                self._out.flush()
            remark = "" if answer.ended else "cut off: the answer reached its most tokens"
        except UserError as error:
            self._note(str(error))
            return
        except KeyboardInterrupt:
            remark = "stopped"
        self._out.write("\n")
        self._out.flush()
        if remark:
            self._note(remark)
        self.messages += [asked, {"role": "assistant", "content": "".join(said)}]

    def _reset(self, rest: str) -> None:
        del rest
        self._begin()
        self._note("a new conversation")

    def _instruct(self, text: str) -> None:
        self._system = text or None
        self._begin()
        self._note(f"a new conversation {'with this' if text else 'without'} instruction")

    def _save(self, name: str) -> None:
        """As a line of JSON with `messages`, which `groundup sft` reads."""
        if not name:
            raise UserError("name a file: /save talk.jsonl")
        path = Path(name)
        if path.exists() and path not in self._saved:
            raise UserError(f"{path} is there already; name another file")
        try:
            write_atomically(path, json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}; name another file") from None
        self._saved.add(path)
        self._note(f"saved to {path}")

    def _note(self, text: str) -> None:
        dim, plain = ("\033[2m", "\033[0m") if self._notes.isatty() else ("", "")
        self._notes.write(f"{dim}[{text}]{plain}\n")
        self._notes.flush()


def talk(chat: Chat, settings: AnswerSettings, system: str | None) -> None:
    """Converse in the terminal, or with each line of a pipe as a turn, until the end of input or /quit."""
    conversation = Conversation(chat, settings, system, sys.stdout, sys.stderr)
    typed = sys.stdin.isatty()
    if typed:
        sys.stderr.write(f"{chat.name}  ({HELP})\n")
    for line in _typed_lines() if typed else (line.rstrip("\n") for line in sys.stdin):
        if not conversation.take(line):
            return


def _typed_lines() -> Iterator[str]:
    """What is typed, with a history by the arrow keys where Python has it; Ctrl-C only drops the line."""
    with suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it
    while True:
        try:
            yield input("> ")
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:
            sys.stderr.write("\n[/quit or Ctrl-D ends]\n")
