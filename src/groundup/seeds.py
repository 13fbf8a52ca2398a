"""Randomness only through explicit generators derived from the recipe's seed."""

import hashlib


def derive(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose, independent of those for other purposes (SHA-256 of both)."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
