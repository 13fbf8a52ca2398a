"""What a source of conversations holds, without stopping at what is wrong in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from groundup.data.dialogue_shapes import EXAMPLE, Skip, is_dialogue, recognise
from groundup.data.records import read_records
from groundup.errors import UserError


@dataclass(frozen=True)
class Survey:
    """How many examples there are of each shape, and turns in all; the places of those that teach nothing.

    `errors` are the records that are no examples, a line each.
    """

    shapes: Mapping[str, int]
    num_turns: int
    skipped: Mapping[Skip, list[str]]
    errors: list[str]

    @property
    def num_useful(self) -> int:
        """How many examples are left."""
        return sum(self.shapes.values()) - sum(map(len, self.skipped.values()))


def survey(source: str, asking: bool = False) -> Survey:
    """Look at every record, with `asking` for its prompt alone.

    UserError if the source is missing, or cannot be read to its end.
    """
    shapes: Counter[str] = Counter()
    skipped: dict[Skip, list[str]] = {}
    errors: list[str] = []
    num_turns = 0
    for where, record in read_records([source], EXAMPLE, "prompt" if asking else None):
        try:
            dialogues = list(recognise(record, where, asking))
        except UserError as error:
            errors.append(str(error))
            continue
        for dialogue in dialogues:
            shapes[dialogue.shape] += 1
            num_turns += len(dialogue.prompt) + len(dialogue.answer)
            if why := dialogue.asks_nothing if asking else dialogue.teaches_nothing:
                skipped.setdefault(why, []).append(where)
    return Survey(shapes, num_turns, skipped, errors)


def holds_dialogues(source: str) -> bool:
    """Whether the first record of a source is a dialogue's; False too where it holds no records."""
    try:
        _, record = next(read_records([source], EXAMPLE))
    except (UserError, StopIteration):
        return False
    return is_dialogue(record)
