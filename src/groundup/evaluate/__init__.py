"""How good a model is, in figures that compare across tokenizers and families."""
