"""Runs of the families that the planner does not search: the recipe gives the shape, the same loop trains it."""
