"""groundup: build a language model of your own, from raw text to a served model, and see how it works."""

__version__ = "0.1.0"
