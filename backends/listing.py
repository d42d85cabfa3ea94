"""Which of the models that a server lists can be asked for by their names."""

from collections.abc import Iterable

from backends.protocol import ModelInfo

LONGEST_NAME = 255
"""Characters; longer ones cannot be kept with the generations that use them."""


def usable_models(models: Iterable[ModelInfo]) -> list[ModelInfo]:
    """Leave out what has no name, or none that can be kept, and give each of the others once."""
    by_name: dict[str, ModelInfo] = {}
    for model in models:
        if 1 <= len(model.name) <= LONGEST_NAME and "\0" not in model.name:
            by_name.setdefault(model.name, model)
    return list(by_name.values())
