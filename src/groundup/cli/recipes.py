"""`groundup recipes`."""


def recipes() -> int:
    """List the ready recipes with one line each."""
    from groundup.recipe import ready_recipes

    ready = ready_recipes()
    width = max(map(len, ready))
    for name, description in ready.items():
        print(f"{name:{width}}  {description}")
    return 0
