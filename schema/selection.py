"""What an operation selects, for fields whose values cost something to get."""

from collections.abc import Sequence

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection

from schema.context import Info


def selects(info: Info, name: str) -> bool:
    """Tell whether a field of this name is selected of the resolved field's object, whatever its type is."""
    return any(_has(selected.selections, name) for selected in info.selected_fields)


def _has(selections: Sequence[Selection], name: str) -> bool:
    return any(_is_or_has(selection, name) for selection in selections if not _is_left_out(selection))


def _is_or_has(selection: Selection, name: str) -> bool:
    match selection:
        case SelectedField():
            return selection.name == name
        case FragmentSpread() | InlineFragment():
            return _has(selection.selections, name)


def _is_left_out(selection: Selection) -> bool:
    """Tell what `@skip` and `@include` say."""
    skip, include = (selection.directives.get(directive, {}).get("if") for directive in ("skip", "include"))
    return skip is True or include is False
