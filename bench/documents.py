"""`python -m bench.documents`: search at random for the document, and the variables, that cost the most processor time.

Measured is what a document costs before anything of it runs (`Executor.prepare`: parse, measure, validate), and what
variables cost until the first resolver would begin. Both happen in the event loop, so that everybody else waits.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from auth.errors import MissingCredentials
from bench.hostile import FAMILIES, changed, hostile_variables
from gateway import Gateway
from resolvers.root import build_schema
from schema.context import Context
from server.execution import document_limits
from server.graphql import Executor, GraphQLRequest, PersistedDocuments, RequestError, TrustedDocuments, VariableLimits
from server.settings import Settings

KEPT = 30
"""Of the dearest documents, how many are changed further."""

CHECKED_AGAIN = 7
"""How often what looks dear is measured again; the least counts, since the machine has other work, too."""

CHECKED_LAST = 30
"""How often the dearest are measured again in the end, at other moments."""


@dataclass(order=True)
class Found:
    """A request and the milliseconds that it costs."""

    milliseconds: float
    request: GraphQLRequest = field(compare=False)
    family: str = field(compare=False)


def nobody() -> Context:
    """A stranger's context: no root field runs, and what it would get has been made by then."""
    return Context(cast("Gateway", None), "bench", refused=MissingCredentials())


def make_executor() -> Executor:
    """Make an executor with the limits that are the defaults, which helps with suggestions: that costs the most."""
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    return Executor(
        build_schema(),
        document_limits(settings),
        PersistedDocuments(TrustedDocuments(), automatic=False),
        query_timeout=settings.query_timeout,
        introspection=True,
        suggestions=True,
        debug=False,
        variable_limits=VariableLimits(settings.max_list_length, settings.max_variable_values),
    )


class Search:
    """Looks for dear requests of one kind: `measure` gives the milliseconds that one costs."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.executor = make_executor()
        self.best: list[Found] = []
        self.tried = 0

    def documents(self) -> None:
        """Try one document, as somebody signed in and as nobody."""
        if self.best and self.rng.random() < 0.6:
            parent, other = self.rng.choice(self.best), self.rng.choice(self.best)
            text, family = changed(parent.request.query or "", other.request.query or "", self.rng), parent.family
        else:
            make = self.rng.choice(FAMILIES)
            text, family = make(self.rng), make.__name__
        self._try(Found(0, GraphQLRequest(text), family), self.prepare)

    def variables(self) -> None:
        """Try one set of variables."""
        document, variables = hostile_variables(self.rng)
        self._try(Found(0, GraphQLRequest(document, variables=variables), "variables"), self.coerce)

    def prepare(self, request: GraphQLRequest) -> float:
        """The milliseconds of `Executor.prepare`, whatever comes of it."""
        worst = 0.0
        for refused in (None, MissingCredentials()):
            self.executor.forget()
            begun = time.thread_time()
            try:
                self.executor.prepare(request, refused)
            except RequestError:
                pass
            worst = max(worst, (time.thread_time() - begun) * 1000)
        return worst

    def coerce(self, request: GraphQLRequest) -> float:
        """The milliseconds from a request whose document is known to where its first root field would begin."""

        async def run() -> float:
            try:
                self.executor.prepare(GraphQLRequest(request.query), None)
            except RequestError:
                pass
            begun = time.thread_time()
            try:
                operation = self.executor.prepare(request, None)
            except RequestError:
                return (time.thread_time() - begun) * 1000
            await self.executor.execute(operation, nobody())
            return (time.thread_time() - begun) * 1000

        return asyncio.run(run())

    def check(self) -> None:
        """Measure the dearest again."""
        for found in self.best:
            measure = self.coerce if found.request.variables else self.prepare
            found.milliseconds = min([found.milliseconds, *(measure(found.request) for _ in range(CHECKED_LAST))])
        self.best.sort(reverse=True)

    def _try(self, found: Found, measure: Callable[[GraphQLRequest], float]) -> None:
        self.tried += 1
        found.milliseconds = measure(found.request)
        if len(self.best) < KEPT or found > self.best[-1]:
            found.milliseconds = min([found.milliseconds, *(measure(found.request) for _ in range(CHECKED_AGAIN))])
            self.best.append(found)
            self.best.sort(reverse=True)
            del self.best[KEPT:]


def search(deed: Callable[[Search], Any], seconds: float, seed: int) -> Search:
    """Search for so many seconds."""
    found = Search(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        deed(found)
    found.check()
    return found


def main() -> None:
    """Read the options, search, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.documents", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long to search in all")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--show", type=int, default=3, help="how many of the dearest to print")
    options = parser.parse_args()
    for name, deed, share in (("documents", Search.documents, 0.7), ("variables", Search.variables, 0.3)):
        found = search(deed, options.minutes * 60 * share, options.seed)
        print(f"{name}: {found.tried:,} tried, the worst costs {found.best[0].milliseconds:.1f} ms of CPU")
        for one in found.best[: options.show]:
            print(f"  {one.milliseconds:6.1f} ms  {one.family}: {str(one.request.query)[:200]!r}")


if __name__ == "__main__":
    main()
