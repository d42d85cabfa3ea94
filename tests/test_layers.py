"""What layers keep to: only the gateway opens transactions, a resolver makes one call, a noun names its files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BLOCKS = {"transaction", "reading"}
"""What opens a session of the database."""

MAY_OPEN = ("gateway", "db")

NOT_NOUNS = {"__init__", "access", "audit", "expected", "node", "root"}
"""Of the resolvers: what stands for no noun."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def called(tree: ast.AST) -> Iterator[str]:
    """Give what is called, as it is written: `context.gateway.usage.report`."""
    yield from (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def opened(source: str) -> list[str]:
    return [name for name in called(ast.parse(source)) if name.rpartition(".")[2] in BLOCKS and "." in name]


def talkative(source: str) -> list[str]:
    """List the functions that call the gateway more than once."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, Function) and sum(".gateway." in f".{name}." for name in called(node)) > 1
    ]


@pytest.mark.parametrize("layer", ["server", "resolvers", "schema", "auth", "backends"])
def test_only_the_gateway_opens_transactions(layer: str):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    assert {str(file): found for file in files if (found := opened(file.read_text()))} == {}


def test_a_resolver_makes_one_gateway_call():
    files = sorted((ROOT / "resolvers").rglob("*.py"))
    assert {file.name: found for file in files if (found := talkative(file.read_text()))} == {}


def test_the_same_noun_names_the_file_in_each_layer():
    paths = [
        path for path in (ROOT / "resolvers").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    nouns = sorted(path.stem for path in paths if path.stem not in NOT_NOUNS)
    assert nouns
    for noun in nouns:
        assert (ROOT / f"schema/{noun}").is_dir() or (ROOT / f"schema/{noun}.py").is_file(), noun
        assert (ROOT / f"gateway/{noun}").is_dir() or (ROOT / f"gateway/{noun}.py").is_file(), noun


def test_the_checkers_find_what_breaks_the_rules():
    assert opened("async with database.transaction() as tx: pass") == ["database.transaction"]
    assert talkative("async def f(info):\n    await info.gateway.a.b()\n    await info.gateway.a.c()") == ["f"]
    assert talkative("async def f(info):\n    await info.gateway.a.b()\n    len('')") == []
