"""Text to ids and back: byte-level byte-pair encoding."""

from groundup.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
