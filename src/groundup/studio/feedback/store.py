"""The file of questions, answers and judgements: SQLite, in which what was acknowledged is on the disk.

A write-ahead log with synchronous=FULL is flushed at the end of every transaction, so that neither a killed
process nor a power cut loses a judgement (https://sqlite.org/pragma.html#pragma_synchronous).
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from groundup.errors import UserError
from groundup.studio.feedback.judgement import Judgement

Messages = list[dict[str, Any]]

_HEAD = b"SQLite format 3\0"
_APPLICATION, _VERSION = 0x67756662, 1  # "gufb"
_SESSION = "session"
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE questions (
  number INTEGER PRIMARY KEY,
  messages TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'ready', 'left out')),
  reason TEXT
);
CREATE TABLE answers (
  question INTEGER NOT NULL REFERENCES questions,
  number INTEGER NOT NULL,
  text TEXT NOT NULL,
  model TEXT,
  sampling TEXT,
  PRIMARY KEY (question, number)
);
CREATE TABLE judgements (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  question INTEGER NOT NULL REFERENCES questions,
  rater TEXT NOT NULL,
  verdict TEXT NOT NULL,
  answer INTEGER,
  ratings TEXT,
  text TEXT,
  shown TEXT NOT NULL,
  milliseconds INTEGER NOT NULL,
  judged_at TEXT NOT NULL,
  undone_at TEXT
);
CREATE UNIQUE INDEX standing ON judgements (question, rater) WHERE undone_at IS NULL;
"""


@dataclass(frozen=True)
class Answer:
    """A text that answers a question; which model wrote it and how it sampled, where that is known."""

    text: str
    model: str | None = None
    sampling: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Question:
    """A prompt, and its answers once they are written."""

    number: int
    messages: Messages
    answers: list[Answer]


@dataclass(frozen=True)
class Progress:
    """How many questions a rater has judged of how many; the id of the judgement that he could undo."""

    done: int
    total: int
    last: str | None


class StoreError(UserError):
    """The file cannot be read or written now; nothing of what was to be stored is in it."""


class Store:
    """One feedback file; may be used from many threads, and read by other processes meanwhile.

    Its methods raise StoreError where the file is damaged, locked for long by another program or the disk is full.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        try:
            if path.exists() and path.stat().st_size and not is_store(path):
                raise UserError(
                    f"{path} is no feedback file; name one that `groundup feedback` wrote, or a new one"
                )
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._check_is_own()
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._make_tables()
        except (OSError, sqlite3.DatabaseError) as error:
            raise UserError(f"{path} cannot be opened ({error}); check the folder and its permissions") from None

    def _check_is_own(self) -> None:
        """Before anything is changed in it."""
        application, version = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION and self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise UserError(f"{self.path} is another program's database; name a feedback file, or a new one")
        if version > _VERSION:
            raise UserError(
                f"{self.path} has format {version}, but this groundup reads only {_VERSION}; use the newer one "
                "that wrote it"
            )

    def _make_tables(self) -> None:
        with self._writing() as connection:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION}")
                connection.execute(f"PRAGMA user_version={_VERSION}")
            connection.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (_SESSION, _json(uuid4().hex)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise StoreError(
                    f"{self.path} cannot be used ({error}); see whether the disk is full or another program holds "
                    "the file, else go on with a copy of it that is whole"
                ) from None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk when the block ends, or nothing."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # After some failures SQLite has done so itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._connected() as connection:
            return connection.execute(query, values).fetchall()

    def begin(self, about: Mapping[str, Any], prompts: Sequence[Messages]) -> None:
        """Put the prompts in; where they are there already, check that they and `about` are as they were."""
        with self._writing() as connection:
            if not connection.execute("SELECT 1 FROM about WHERE name != ?", (_SESSION,)).fetchone():
                rows = [(name, json.dumps(value)) for name, value in about.items()]
                connection.executemany("INSERT INTO about VALUES (?, ?)", rows)
                texts = [(number, _json(messages)) for number, messages in enumerate(prompts)]
                connection.executemany("INSERT INTO questions (number, messages) VALUES (?, ?)", texts)
                return
        for name, before in self.about().items():
            if about.get(name) != before:
                raise UserError(
                    f"{self.path} was begun with {name}={before}, not {about.get(name)}; give another --out, "
                    "or the same options as before"
                )

    def about(self) -> dict[str, Any]:
        """What `begin` was given; nothing before."""
        rows = self._rows("SELECT * FROM about WHERE name != ?", _SESSION)
        return {row["name"]: json.loads(row["value"]) for row in rows}

    def session(self) -> str:
        """A name that no other feedback file has, by which judgements say what they are about."""
        return json.loads(self._rows("SELECT value FROM about WHERE name = ?", _SESSION)[0]["value"])

    def waiting(self) -> list[Question]:
        """The questions that have no answers yet, in order."""
        rows = self._rows("SELECT * FROM questions WHERE state = 'waiting' ORDER BY number")
        return [Question(row["number"], json.loads(row["messages"]), []) for row in rows]

    def answer(self, number: int, answers: Sequence[Answer]) -> None:
        """Store the answers to a question, which can then be judged."""
        with self._writing() as connection:
            rows = [
                (
                    number,
                    place,
                    answer.text,
                    answer.model,
                    None if answer.sampling is None else _json(answer.sampling),
                )
                for place, answer in enumerate(answers)
            ]
            connection.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("UPDATE questions SET state = 'ready' WHERE number = ?", (number,))

    def leave_out(self, number: int, reason: str) -> None:
        """Never ask a question, because of the reason."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE questions SET state = 'left out', reason = ? WHERE number = ?", (reason, number)
            )

    def states(self) -> dict[str, int]:
        """How many questions are `waiting`, `ready` and `left out`."""
        counts = dict.fromkeys(("waiting", "ready", "left out"), 0)
        rows = self._rows("SELECT state, COUNT(*) AS count FROM questions GROUP BY state")
        return counts | {row["state"]: row["count"] for row in rows}

    def question(self, number: int) -> Question:
        """A question and its answers; UserError where there is none of that number."""
        found = self._rows("SELECT messages FROM questions WHERE number = ?", number)
        if not found:
            raise UserError(f"there is no question {number}; load the page again")
        rows = self._rows("SELECT * FROM answers WHERE question = ? ORDER BY number", number)
        answers = [
            Answer(row["text"], row["model"], None if row["sampling"] is None else json.loads(row["sampling"]))
            for row in rows
        ]
        return Question(number, json.loads(found[0]["messages"]), answers)

    def next(self, rater: str) -> Question | None:
        """The first question with answers that this rater has not judged."""
        rows = self._rows(
            "SELECT number FROM questions WHERE state = 'ready' AND number NOT IN "
            "(SELECT question FROM judgements WHERE rater = ? AND undone_at IS NULL) ORDER BY number LIMIT 1",
            rater,
        )
        return self.question(rows[0]["number"]) if rows else None

    def progress(self, rater: str) -> Progress:
        """How far a rater has come."""
        rows = self._rows(
            "SELECT id FROM judgements WHERE rater = ? AND undone_at IS NULL ORDER BY place DESC", rater
        )
        states = self.states()
        return Progress(len(rows), states["waiting"] + states["ready"], rows[0]["id"] if rows else None)

    def judge(self, judgement: Judgement) -> bool:
        """Store a judgement, once; False where this rater has judged the question in another way already.

        When this returns it is on the disk. UserError where the question has other answers than were judged.
        """
        if len(self.question(judgement.question).answers) != len(judgement.shown):
            raise UserError(f"question {judgement.question} does not have {len(judgement.shown)} answers; reload")
        values = judgement.model_dump() | {
            "ratings": None if judgement.ratings is None else json.dumps(judgement.ratings),
            "shown": json.dumps(judgement.shown),
            "judged_at": _now(),
        }
        names = ", ".join(values)
        with self._writing() as connection:
            if connection.execute("SELECT 1 FROM judgements WHERE id = ?", (judgement.id,)).fetchone():
                return True
            inserted = connection.execute(
                f"INSERT INTO judgements ({names}) VALUES ({', '.join('?' * len(values))}) "
                "ON CONFLICT (question, rater) WHERE undone_at IS NULL DO NOTHING",
                tuple(values.values()),
            )
            return inserted.rowcount == 1

    def undo(self, rater: str, id: str) -> bool:
        """Mark a judgement of this rater as undone; False where he has none of that id. Twice is as once."""
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE judgements SET undone_at = COALESCE(undone_at, ?) WHERE id = ? AND rater = ?",
                (_now(), id, rater),
            )
            return found.rowcount == 1

    def judgements(self, *, undone: bool = False) -> list[Judgement]:
        """All judgements that stand, or those that were undone, in the order in which they came."""
        rows = self._rows(
            f"SELECT * FROM judgements WHERE undone_at IS {'NOT ' if undone else ''}NULL ORDER BY place"
        )
        fields = set(Judgement.model_fields) - {"ratings", "shown"}
        return [
            Judgement(
                **{name: row[name] for name in fields},
                ratings=None if row["ratings"] is None else json.loads(row["ratings"]),
                shown=json.loads(row["shown"]),
            )
            for row in rows
        ]


def is_store(path: Path) -> bool:
    """Whether a file looks like a feedback file; a killed process leaves one whose name is still in its log."""
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(_HEAD) and int.from_bytes(head[68:72], "big") in (0, _APPLICATION)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _now() -> str:
    """The time in UTC, as `2026-11-23T12:34:56.789+00:00`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
