"""Word vectors: word2vec and GloVe from any text, neighbours, analogies, and how well they agree with people."""

from groundup.words.vectors import WordVectors

__all__ = ["WordVectors"]
