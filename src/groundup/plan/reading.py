"""How much held-out text a run can afford to read."""

import math

# Shares of the training time: of all validations together, and of the evaluation at the end.
_VALIDATION_SHARE = 0.004
_EVALUATION_SHARE = 0.003
# A forward pass alone is about three times as fast as forward, backward and step.
_READING_SPEED = 3.0
# With fewer tokens the figures say little.
_LEAST_VALIDATION_TOKENS = 2048
_LEAST_EVALUATION_TOKENS = 32_768


def validation_tokens(train_seconds: float, tokens_per_second: float, validations: int) -> int:
    """Tokens of each validation: a power of two, so that runs alike measure alike; rates are those of training."""
    affordable = _affordable(_VALIDATION_SHARE, train_seconds, tokens_per_second) / validations
    return int(2 ** math.floor(math.log2(max(affordable, _LEAST_VALIDATION_TOKENS))))


def evaluation_tokens(train_seconds: float, tokens_per_second: float) -> int:
    """Tokens of the evaluation at the end, whose figures are the run's."""
    return max(_LEAST_EVALUATION_TOKENS, int(_affordable(_EVALUATION_SHARE, train_seconds, tokens_per_second)))


def _affordable(share: float, train_seconds: float, tokens_per_second: float) -> float:
    """Tokens that are read in a share of the training time."""
    return share * train_seconds * tokens_per_second * _READING_SPEED
