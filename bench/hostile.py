"""Documents and variables that were made to be dear: families of them, and small changes to any of them.

Each family is a function of a random number generator; what it gives is near the limits on documents, on either side.
"""

import random
import re
from collections.abc import Callable
from typing import Any

Random = random.Random
Variables = dict[str, Any]

OBJECTS = {
    "Query": ("me", "models", "generations", "usage", "generation", "node"),
    "User": ("id", "username", "role", "createdAt", "apiKeys"),
    "ApiKey": ("id", "name", "prefix", "scopes", "createdAt", "expiresAt", "lastUsedAt", "revokedAt", "user"),
    "Generation": ("id", "modelName", "state", "text", "model", "user", "apiKey", "usage", "timings", "error"),
    "Model": ("id", "name", "available", "capabilities", "contextLength", "family"),
    "GenerationConnection": ("edges", "nodes", "pageInfo"),
    "GenerationEdge": ("cursor", "node"),
    "TokenUsage": ("promptTokens", "completionTokens", "source"),
    "UsageReport": ("from", "to", "totals", "rows"),
}
"""Some types and their fields."""

KINDS = {
    "me": "User", "user": "User", "apiKeys": "ApiKey", "apiKey": "ApiKey", "generations": "GenerationConnection",
    "nodes": "Generation", "node": "Generation", "edges": "GenerationEdge", "model": "Model", "models": "Model",
    "generation": "Generation", "usage": "TokenUsage",
}  # fmt: skip
"""The type of each field that has one of these."""

TOKEN = re.compile(r'"""[^"]*"""|"[^"]*"|\.\.\.|[A-Za-z_]\w*|-?\d[\w.]*|[^\s,]')


def repeated(rng: Random) -> str:
    """The same fields again and again, level below level, plain or under one alias."""
    path = rng.choice([("me", "apiKeys", "user", "apiKeys"), ("generations", "nodes", "user", "apiKeys", "user")])
    text = rng.choice(["id", "id username", "__typename id"])
    for name in reversed(path):
        arguments = rng.choice(["", "", "(first:1)", f"(first:{rng.randrange(9)})"]) if name == "generations" else ""
        alias = rng.choice(["", "", "a:"])
        times = rng.choice([1, 2, 3, 9, 10, 30])
        text = " ".join([f"{alias}{name}{arguments}{{{text}}}"] * times)
        if len(text) > 6000:
            break
    return f"{{{text}}}"


def leaves(rng: Random) -> str:
    """Many scalars, each as often as is allowed, in many objects."""
    times = rng.randrange(1, 12)
    names = " ".join(list(OBJECTS["Generation"][:4]) * times)
    return (
        "{generations{nodes{" + " ".join(f"... on Generation{{{names}}}" for _ in range(rng.randrange(1, 30))) + "}}}"
    )


def fragments(rng: Random) -> str:
    """Many fragments in one object, which share fields or do not."""
    count, own = rng.randrange(2, 51), rng.randrange(1, 6)
    kind = rng.choice(["User", "ApiKey", "Generation"])
    where = {"User": "me{%s}", "ApiKey": "me{apiKeys{%s}}", "Generation": "generations{nodes{%s}}"}[kind]
    shared = rng.sample(OBJECTS[kind][:4], rng.randrange(0, 4))
    nested = {"User": "apiKeys{%s}", "ApiKey": "user{%s}", "Generation": "user{%s}"}[kind] % " ".join(["id"] * own)
    bodies = [
        " ".join([*shared, *(f"x{number}:{rng.choice(OBJECTS[kind][:4])}" for _ in range(own % 2))])
        + (nested if rng.random() < 0.3 else "")
        + (f" ...F{rng.randrange(number + 1, count)}" if number + 1 < count and rng.random() < 0.3 else "")
        for number in range(count)
    ]
    spreads = " ".join(f"...F{number}" for number in range(count))
    definitions = " ".join(f"fragment F{number} on {kind}{{{body}}}" for number, body in enumerate(bodies))
    return f"{{{where % spreads}}} {definitions}"


def empty_fragments(rng: Random) -> str:
    """Fragments without a field that spread one another, in cycles or not, used or not."""
    count, spreads = rng.randrange(2, 51), rng.randrange(1, 19)
    cyclic = rng.random() < 0.3
    bodies = [
        " ".join(f"...F{rng.randrange(0 if cyclic else number + 1, count + 1)}" for _ in range(spreads))
        for number in range(count)
    ]
    used = rng.choice(["...F0", "me{id}", "me{...F0}"])
    return f"{{{used}}}" + " ".join(f"fragment F{n} on Query{{{body}}}" for n, body in enumerate(bodies))


def operations(rng: Random) -> str:
    """Many operations with variables over shared fragments."""
    count, variables, used = rng.randrange(1, 60), rng.randrange(0, 20), rng.randrange(1, 120)
    declared = "".join(f"$v{number}:Int " for number in range(variables))
    heads = [f"query Q{number}{f'({declared})' if variables else ''}{{...F}}" for number in range(count)]
    fields = " ".join(
        f"a{number}:generations(first:$v{rng.randrange(variables + 1)}){{pageInfo{{hasNextPage}}}}"
        if number < 15
        else f"...on Query@include(if:$v{rng.randrange(variables + 1)}){{__typename}}"
        for number in range(used)
    )
    return " ".join(heads) + f" fragment F on Query{{{fields}}}"


def variables_declared(rng: Random) -> str:
    """Many variables, with defaults or directives, used or not."""
    kind, default = rng.choice(
        [("Int", "=5"), ("Int", ""), ("[[Int]]", "=[[1]]"), ("GenerateInput", '={model:"x"}'), ("Nothing", "=1"),
         ("LoginInput!", ""), ("Int", "=" + "9" * 60), ("JSON", "={a:{b:[1,2]}}"), ("User", "")]
    )  # fmt: skip
    count = rng.randrange(1, 260)
    same = rng.random() < 0.2
    declared = " ".join(f"$v{0 if same else number}:{kind}{default}" for number in range(count))
    uses = " ".join(
        f"a{n}:generations(first:$v{rng.randrange(count + 1)}){{__typename}}" for n in range(rng.randrange(15))
    )
    return f"query({declared}){{me{{id}}{uses}}}"


def literals(rng: Random) -> str:
    """Large input objects, in argument or default: messages, tools and JSON of any form."""
    what = rng.choice([
        "{role:USER}", '{role:SYSTEM content:"x"}', "{role:NONE}", "{rol:USER}", "{}", "5", "[[]]", "$v",
        '{role:USER parts:[{text:"x"}]}', '{role:USER toolCalls:[{callId:"x" name:"y" arguments:{a:1}}]}',
    ])  # fmt: skip
    messages = " ".join([what] * rng.randrange(0, 250))
    declared = rng.choice(["", "($v:MessageInput)", "($v:MessageRole)"])
    tool = f'{{name:"t" parameters:{json_literal(rng, rng.randrange(300))}}}'
    given = f'{{model:"x" prompt:{{messages:[{messages}]}} tools:[{tool}]}}'
    return f"mutation{declared}{{generate(input:{given}){{__typename}}}}"


def json_literal(rng: Random, size: int) -> str:
    """A JSON value as a literal."""
    form = rng.randrange(7)
    if form == 0:
        return "{" + " ".join(f"a{number}:1" for number in range(size)) + "}"
    if form == 1:
        return "{a:[" + "1 " * (size * 3) + "]}"
    if form == 2:
        return "{a:" * size + "1" + "}" * size
    if form == 3:
        return "{a:" + "[" * size + "]" * size + "}"
    if form == 4:
        return "{" + "a:$v " * size + "}"
    if form == 5:
        return '{a:"' + "x" * size * 30 + '"}'
    return "{a:" + "9" * size * 20 + "}"


def unknown(rng: Random) -> str:
    """Names that nothing has, near to some that there are: fields, arguments, types, directives, enum values."""
    count = rng.choice([rng.randrange(1, 11), rng.randrange(1, 300)])  # few are within the limits, and are validated
    name = rng.choice(["usernam", "generation", "x" * rng.randrange(1, 300), "createdA", "apiKey", "createApiKeyInpu"])
    form = rng.choice([
        "me{%s}", "me{... on %s{id}}", "me{id@%s}", "me{...%s}", "generations(%s:1){__typename}",
        "generations(filter:{%s:1}){__typename}", "generations(filter:{states:[%s]}){__typename}",
    ])  # fmt: skip
    return "{" + " ".join(form % f"{name}{number}" for number in range(count)) + "}"


def unrelated(rng: Random) -> str:
    """Fragments on types that cannot be there, nested."""
    text = "__typename"
    for _ in range(rng.randrange(1, 12)):
        times = rng.randrange(1, 12)
        text = " ".join(f"... on {rng.choice(list(OBJECTS))}{{{text}}}" for _ in range(times))
        if len(text) > 5000:
            break
    return f'{{node(id:"x"){{{text}}}}}'


def introspection(rng: Random) -> str:
    """The schema of the schema, deep and broad."""
    text = rng.choice(["name", "name kind description"])
    for _ in range(rng.randrange(1, 14)):
        names = rng.sample(
            ["ofType", "interfaces", "possibleTypes", "fields{type", "inputFields{type", "enumValues"],
            rng.randrange(1, 3),
        )
        text = " ".join(f"{name}{{{text}}}{'}' if '{' in name else ''}" for name in names)
        if len(text) > 4000:
            break
    times = rng.randrange(1, 4)
    return "{__schema{" + " ".join([f"types{{{text}}}"] * times) + "}}"


def conflicts(rng: Random) -> str:
    """Fields that cannot be merged, for their arguments or names."""
    count, long = rng.randrange(2, 12), rng.randrange(1, 80)
    prompt = "{messages:[" + " ".join(["{role:USER}"] * long) + "]}"
    return "mutation{" + " ".join(
        f'a:generate(input:{{model:"{number}" prompt:{prompt}}}){{__typename}}' for number in range(count)
    ) + "}"  # fmt: skip


def doubled(rng: Random) -> str:
    """Arguments, input fields, directives, operations and fragments that are there more than once."""
    count = rng.randrange(2, 240)
    return rng.choice([
        "{generations(" + "first:1 " * count + "){__typename}}",
        "{generations(filter:{" + 'model:"x" ' * count + "}){__typename}}",
        "{me{id " + "@include(if:true) " * count + "}}",
        "query A{me{id}} " * count,
        "{me{...F}} " + "fragment F on User{id} " * count,
        "{me{" + "__typename " * count + "}}",
    ])  # fmt: skip


def filler(rng: Random) -> str:
    """What the lexer reads: comments, commas, escapes, block strings, names and numbers without an end."""
    size = rng.randrange(1, 15_000)
    return rng.choice([
        "{me{id}}" + "#" * size,
        "{me{id}}" + "," * size,
        "{me{id}}" + "\n#x" * (size // 3),
        "\n" * size + "{me{id}}",
        '{node(id:"' + "\\u0041" * (size // 6) + '"){id}}',
        '{node(id:"""' + "\n  x" * (size // 4) + '"""){id}}',
        "{" + "a" * size + "}",
        "{generations(first:" + "9" * size + "){__typename}}",
        '{node(id:"' + "x" * size,
        "{me" * (size // 3),
    ])  # fmt: skip


def soup(rng: Random) -> str:
    """Fields and fragments at random, by the types."""
    budget = [rng.randrange(20, 420)]

    def selection(kind: str, depth: int) -> str:
        parts: list[str] = []
        while budget[0] > 0 and (not parts or rng.random() < 0.8):
            budget[0] -= 1
            name = rng.choice(OBJECTS[kind])
            if rng.random() < 0.1 and depth < 9:
                parts.append(f"... on {kind}{selection(kind, depth)}")
            elif name in KINDS and not (kind == "Query" and name == "node"):
                below = KINDS[name] if not (kind == "Query" and name == "usage") else "UsageReport"
                if depth < 9:
                    arguments = '(id:"x")' if kind == "Query" and name == "generation" else ""
                    parts.append(f"{name}{arguments}{selection(below, depth + 1)}")
            elif kind != "UsageReport" or name in {"from", "to"}:
                parts.append(name)
        return "{" + (" ".join(parts) or "__typename") + "}"

    return selection("Query", 0)


FAMILIES: tuple[Callable[[Random], str], ...] = (
    repeated, leaves, fragments, empty_fragments, operations, variables_declared, literals, unknown, unrelated,
    introspection, conflicts, doubled, filler, soup,
)  # fmt: skip


def changed(text: str, other: str, rng: Random) -> str:
    """A document changed a little: a piece doubled, left out, moved, or taken from another document."""
    tokens, others = TOKEN.findall(text), TOKEN.findall(other)
    for _ in range(rng.randrange(1, 4)):
        if len(tokens) < 4:
            break
        start = rng.randrange(len(tokens))
        end = min(len(tokens), start + rng.choice([1, 2, 5, 20, 100]))
        at = rng.randrange(len(tokens))
        deed = rng.randrange(4)
        if deed == 0:
            tokens[at:at] = tokens[start:end] * rng.choice([1, 1, 3])
        elif deed == 1:
            del tokens[start:end]
        elif deed == 2:
            tokens[at] = rng.choice(tokens)
        elif others:
            begin = rng.randrange(len(others))
            tokens[at:at] = others[begin : begin + rng.choice([1, 5, 30])]
        tokens = tokens[:1005]
    return " ".join(tokens)[:15_001]


GENERATE = "mutation($input:GenerateInput!){generate(input:$input){__typename}}"
SEVERAL = (
    "mutation($input:GenerateInput!){" + " ".join(f"a{n}:generate(input:$input){{__typename}}" for n in range(9)) + "}"
)


def hostile_variables(rng: Random) -> tuple[str, Variables]:
    """A document and variables for it that are many, wrong, deep or wide."""
    message: Any = rng.choice([
        {"role": "USER"}, {"role": "USER", "text": "x"}, {"rol": "USER"}, {}, 5, [], None, {"role": "NOBODY"},
        {"role": "USER", "toolCalls": [{"callId": "x", "name": "y", "arguments": {}}] * rng.randrange(40)},
        {"role": "USER", "text": "x", "thinking": "x", "toolCallId": "x", "toolName": "x"},
        {"role": "USER", "parts": [{"image": {"base64": "eA=="}}] * rng.randrange(100)},
        {f"unknown{number}": 1 for number in range(rng.randrange(1, 100))},
    ])  # fmt: skip
    tool = {"name": "t", "parameters": json_value(rng)}
    given: Variables = {"model": "x", "prompt": {"messages": [message] * rng.randrange(1100)}}
    if rng.random() < 0.5:
        given["tools"] = [tool] * rng.choice([1, 5, 128, 1000])
    if rng.random() < 0.2:
        given |= {f"more{number}": 1 for number in range(rng.randrange(5000))}
    return rng.choice([GENERATE, GENERATE, SEVERAL]), {"input": given}


def json_value(rng: Random) -> Any:
    """A JSON value that is wide, deep or long."""
    size = rng.randrange(1, 2000)
    form = rng.randrange(5)
    if form == 0:
        return {f"a{number}": number for number in range(size)}
    if form == 1:
        return {"a": [1] * size}
    if form == 2:
        return {"a": "x" * size * 10}
    value: Any = 1
    for _ in range(min(size, 900)):
        value = [value] if form == 3 else {"a": value}
    return {"a": value}
