"""Files and functions small enough to be read at one sitting. One that grows past that is asking for a new noun."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES = 400
FUNCTION_LINES = 50

CODE = {".py", ".ts", ".tsx", ".js", ".css", ".html"}
NOT_OURS = {".git", ".venv", ".make", ".hypothesis", "node_modules", "dist", "build", "data", "__pycache__"}

# A test may lay out a long example, and a migration lists what it changes.
LONG_FUNCTIONS_ALLOWED = ("tests/", "alembic/versions/")


def code_files() -> Iterator[PurePosixPath]:
    """Give every code file of ours, relative to the repository; asked of the disk, so that new files count."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - NOT_OURS)
        here = PurePosixPath(Path(folder).relative_to(ROOT))
        yield from (here / name for name in names if PurePosixPath(name).suffix in CODE)


def long_functions(source: str) -> list[tuple[int, str, int]]:
    """List line, name and length of the functions that are too long, docstring included."""
    return [
        (node.lineno, node.name, length)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def test_no_file_is_too_long():
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in code_files()}
    found = [f"{path} has {length} lines" for path, length in lines.items() if length > FILE_LINES]
    assert not found, "\n".join(found)


def test_no_function_is_too_long():
    files = [path for path in code_files() if path.suffix == ".py" and not str(path).startswith(LONG_FUNCTIONS_ALLOWED)]
    found = [
        f"{path}:{line}: {name} has {length} lines"
        for path in files
        for line, name, length in long_functions((ROOT / path).read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "folder", ["auth", "backends", "db", "gateway", "resolvers", "schema", "server", "tests", "web"]
)
def test_the_files_of_a_folder_are_seen(folder: str):
    assert any(path.parts[0] == folder for path in code_files())


@pytest.mark.parametrize("start", ["def f():\n", "async def f():\n", "class A:\n  def f(self):\n"])
def test_a_function_one_line_over_the_limit_is_found(start: str):
    body = "    pass\n" * FUNCTION_LINES
    assert [(name, length) for _, name, length in long_functions(start + body)] == [("f", FUNCTION_LINES + 1)]


def test_a_function_at_the_limit_is_allowed():
    assert long_functions("def f():\n" + "    pass\n" * (FUNCTION_LINES - 1)) == []
