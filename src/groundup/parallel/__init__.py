"""What is put around a model from outside, each a function model -> model that leaves its numbers as they are."""
