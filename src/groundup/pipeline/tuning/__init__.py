"""Runs of the stages behind pretraining."""
