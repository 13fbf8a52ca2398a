"""The page on which one talks to a model."""
