"""What counting alone reaches on a run's text: the baseline of every language model."""

import math

from groundup.evaluate.bigram import Bigram
from groundup.pipeline.prepare import Tokens
from groundup.tokenizer import Tokenizer

# More would take longer than a short run's evaluation.
_MOST_COUNTED, _MOST_ASKED = 2_000_000, 65_536


def bigram_bits_per_byte(tokens: Tokens, tokenizer: Tokenizer) -> float:
    """Bits a byte of the held-out text under a bigram model of the training text; of each their first tokens."""
    counted = tokens.train.read(0, min(tokens.train.num_tokens, _MOST_COUNTED))
    asked = tokens.held_out.read(0, min(tokens.held_out.num_tokens, _MOST_ASKED))
    lengths = tokenizer.byte_lengths[asked[1:]]
    nats = Bigram.learn(counted, tokenizer.vocabulary_size).nats(asked[:-1], asked[1:])
    return float(nats[lengths > 0].sum()) / math.log(2) / int(lengths.sum())
