"""Several workers on one port: they act as one gateway, whatever becomes of one of them or of what they share."""

import os
import resource
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from server.workers.link import HEARTBEAT_SECONDS
from server.workers.worker_process import LONGEST_FOLDER, start_method
from tests.support.fake_model_server import FakeModelServer, running_fake_model_server
from tests.support.generations import COMPLETE, GENERATE, START, WATCH, asking
from tests.support.http_streams import EVENT_STREAM
from tests.support.polling import pause
from tests.support.preloaded import PreloadedProcess
from tests.support.processes import (
    CUT_OFF,
    START_SECONDS,
    WORKER,
    Served,
    descendants,
    environment,
    is_running,
    run_command,
    serving,
)
from tests.test_process import refusal

PASSWORD = "a password of mine"
MODEL = "fake:paced-80-20"
TEXT = "".join(f"{number} " for number in range(80))
MOST_STREAMS = SLOTS = 5
SETTINGS = {
    "WORKERS": "2",
    "ADMIN_PASSWORD": PASSWORD,
    "MAX_STREAMS_PER_USER": str(MOST_STREAMS),
    "DRAIN_TIME": "60",
    "MODELS_MAX_AGE": "0",
    "OLLAMA_PARALLEL": str(SLOTS),
    "BREAKER_FAILURES": "2",
    "BREAKER_PAUSE": "0.01",
}

PROCESSES = 6
"""Of a gateway: two workers, what they are forked from, Python's tracker of resources, Valkey and its keeper."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the children of a process")


@dataclass
class Workers:
    """A gateway of two workers before a fake model server, and its administrator's token."""

    served: Served
    fake: FakeModelServer
    token: str

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient]:
        """A client that opens a connection of its own, at any of the workers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.served.url, headers=headers, timeout=60, verify=False) as client:
            yield client

    async def ready(self) -> Any:
        """What `/readyz` tells."""
        async with self.client() as client:
            return (await client.get("/readyz")).json()

    async def all_are_ready(self) -> None:
        """Return when both workers serve, and Valkey takes what they write: the one of before may have been killed."""
        with anyio.fail_after(START_SECONDS):
            while not await self._are_ready():  # noqa: ASYNC110 - they are processes, and set no event of ours
                await anyio.sleep(0.02)

    async def _are_ready(self) -> bool:
        try:
            told = await self.ready()
        except CUT_OFF:  # with a worker end the connections that it had not accepted yet
            return False
        is_ready = told["workers"]["ready"] == 2 and told["streamLog"]["ready"]
        return is_ready and len(self.pids()) == PROCESSES

    async def start(self, model: str) -> str:
        """Start a generation that outlives its viewers and its worker, and give its id."""
        data = await self.served.run(
            START, self.token, **asking(model, onDisconnect="CONTINUE", onBackendLoss="CONTINUE")
        )
        return data["startGeneration"]["generation"]["id"]

    def pids(self, name: str = "") -> list[int]:
        """The processes of the gateway whose name begins like this."""
        return descendants(self.served.process.pid, name)


@dataclass
class Viewer:
    """Watches one generation to its end, however often that takes."""

    text: str = ""
    sequence: int = 0
    end: str = ""
    begun: anyio.Event = field(default_factory=anyio.Event)

    async def watch(self, workers: Workers, generation_id: str) -> None:
        """Come back after each loss of the connection, behind the last event seen."""
        with anyio.fail_after(START_SECONDS):
            while not self.end:
                try:
                    async with stream(workers, WATCH, id=generation_id, after=self.sequence) as events:
                        async for event in events:
                            self.take(event)
                except (httpx.HTTPError, StreamRefused):
                    await anyio.sleep(0.02)

    def take(self, event: dict[str, Any]) -> None:
        """Add what is new; nothing may be missing, or come twice."""
        assert event["sequence"] > self.sequence
        if "text" in event:
            assert event["offset"] == len(self.text)
            self.text += event["text"]
            self.begun.set()
        self.sequence = event["sequence"]
        if event["__typename"] in {"GenerationCompleted", "GenerationFailed", "GenerationCancelled"}:
            self.end = event["__typename"]


class StreamRefused(Exception):
    """The stream began with an error; its code."""


@asynccontextmanager
async def stream(workers: Workers, query: str, **variables: Any) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
    """Open a stream over HTTP on a connection of its own, and give its events."""
    async with (
        workers.client() as client,
        client.stream(
            "POST", "/graphql", json={"query": query, "variables": variables}, headers={"Accept": EVENT_STREAM}
        ) as response,
    ):
        yield events_of(response)


async def events_of(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            body = orjson.loads(line.removeprefix("data: "))
            if "errors" in body:
                raise StreamRefused(body["errors"][0]["extensions"]["code"])
            if body:
                yield next(iter(body["data"].values()))


@asynccontextmanager
async def running(folder: Path, fake: FakeModelServer) -> AsyncGenerator[Workers]:
    async with serving(folder / "data", OLLAMA_URL=fake.url, **SETTINGS) as served:
        token = await served.sign_in(PASSWORD)
        assert token is not None
        yield Workers(served, fake, token)


@pytest.fixture(scope="module")
async def running_workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    async with running_fake_model_server() as fake, running(tmp_path_factory.mktemp("workers"), fake) as workers:
        yield workers


@pytest.fixture
async def workers(running_workers: Workers) -> Workers:
    """The gateway of all tests here, with both workers ready and a model server that is as new."""
    running_workers.fake.reset()
    running_workers.fake.models += [MODEL, "fake:hold-3"]
    await running_workers.all_are_ready()
    return running_workers


async def test_both_workers_answer_on_one_port_and_the_log_tells_which(workers: Workers):
    with anyio.fail_after(START_SECONDS):
        while not all(f"INFO worker {number} ollagraph.access: POST" in workers.served.errors for number in (1, 2)):
            data = await workers.served.run("{ models { name } }", workers.token)
            assert {"name": MODEL} in data["models"]
            await pause()
    assert workers.served.greeting.count("Ollagraph is ready") == 1


async def test_readiness_tells_of_all_workers(workers: Workers):
    told = await workers.ready()
    assert (told["status"], told["workers"]) == ("ready", {"ready": 2, "of": 2})


async def test_any_worker_tells_of_the_breakers_of_all(workers: Workers):
    workers.fake.models += ["fake:status-500", "fake:count-3"]
    async with workers.client() as at_one:
        for _ in range(2):
            await at_one.post("/graphql", json={"query": COMPLETE, "variables": asking("fake:status-500")})
        await all_tell(workers, {"CLOSED": 1, "HALF_OPEN": 1})
        await at_one.post("/graphql", json={"query": COMPLETE, "variables": asking("fake:count-3")})
        await all_tell(workers, {"CLOSED": 2})


async def all_tell(workers: Workers, wanted: dict[str, int]) -> None:
    """Return when `/readyz` has told this several times in a row, on connections of their own."""
    right = 0
    with anyio.fail_after(START_SECONDS):
        while right < 8:
            [backend] = (await workers.ready())["backends"]
            right = right + 1 if backend["breakers"] == wanted else 0
            await pause()


async def test_the_limit_of_streams_holds_over_all_workers(workers: Workers):
    async with AsyncExitStack() as stack:
        opened: list[AsyncIterator[dict[str, Any]]] = []
        for _ in range(MOST_STREAMS):
            opened.append(await stack.enter_async_context(stream(workers, GENERATE, **asking("fake:hold-3"))))
            await anext(opened[-1])
        for _ in range(8):  # whichever worker it comes to
            with pytest.raises(StreamRefused, match="LIMIT_EXCEEDED"):
                async with stream(workers, GENERATE, **asking("fake:hold-3")) as events:
                    await anext(events)
    with anyio.fail_after(START_SECONDS):
        while True:
            try:
                async with stream(workers, GENERATE, **asking("fake:hold-3")) as events:
                    assert await anext(events)
                return
            except StreamRefused:  # until the last one that was left is counted no more
                await anyio.sleep(0.01)


async def test_the_slots_of_a_model_server_hold_over_all_workers(workers: Workers):
    count, requests = SLOTS + 4, workers.fake.requests
    for _ in range(count):
        await workers.start("fake:hold-3")  # on a connection of its own, at either of the workers
    for number in range(count):
        with anyio.fail_after(START_SECONDS):
            while len(requests) < min(count, SLOTS + number):  # noqa: ASYNC110 - the fake server has no event for it
                await anyio.sleep(0.01)
        assert sum(not request.ended.is_set() for request in requests) <= SLOTS
        requests[number].release()
        await requests[number].ended.wait()


async def test_a_worker_that_hangs_is_counted_out_and_then_replaced(workers: Workers):
    before = workers.pids(WORKER)
    os.kill(before[0], signal.SIGSTOP)
    counted_out = anyio.Event()

    async def ask() -> None:
        while not counted_out.is_set():
            with suppress(*CUT_OFF):  # it came to the one that hangs
                async with httpx.AsyncClient(timeout=2, verify=False) as client:
                    told = (await client.get(f"{workers.served.url}/readyz")).json()["workers"]
                    if told == {"ready": 1, "of": 2, "hanging": 1}:
                        counted_out.set()
            await pause()

    with anyio.fail_after(START_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):  # it hangs for some seconds, and takes requests as the other does
                tasks.start_soon(ask)
    with anyio.fail_after(START_SECONDS):
        while before[0] in workers.pids(WORKER):  # noqa: ASYNC110 - it is no child of ours
            await anyio.sleep(0.02)
    await workers.all_are_ready()
    assert len(set(workers.pids(WORKER)) - set(before)) == 1
    assert "hangs: nothing from it for 10 s" in workers.served.errors


async def test_no_character_is_lost_or_doubled_when_a_worker_is_killed(workers: Workers):
    viewers = [Viewer() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for viewer in viewers:
            tasks.start_soon(viewer.watch, workers, await workers.start(MODEL))
        for viewer in viewers:
            await viewer.begun.wait()
        before = workers.pids(WORKER)
        os.kill(before[0], signal.SIGKILL)
    assert [(viewer.end, viewer.text) for viewer in viewers] == [("GenerationCompleted", TEXT)] * len(viewers)
    await workers.all_are_ready()
    assert len(set(workers.pids(WORKER)) - set(before)) == 1
    assert "ended (signal 9); it is started again" in workers.served.errors


async def test_streams_go_on_when_the_private_valkey_is_killed(workers: Workers):
    viewers = [Viewer() for _ in range(4)]
    generation = await workers.start(MODEL)
    async with anyio.create_task_group() as tasks:
        for viewer in viewers:
            tasks.start_soon(viewer.watch, workers, generation)
        for viewer in viewers:
            await viewer.begun.wait()
        (server,) = workers.pids("valkey-server")
        os.kill(server, signal.SIGKILL)
    assert [(viewer.end, viewer.text) for viewer in viewers] == [("GenerationCompleted", TEXT)] * len(viewers)
    await workers.all_are_ready()


async def test_workers_are_replaced_when_what_they_are_forked_from_is_gone(workers: Workers):
    before = workers.pids(WORKER)
    (forked_from,) = [pid for pid in workers.pids() if set(before) <= set(descendants(pid))]
    os.kill(forked_from, signal.SIGKILL)
    await gone(lambda: [forked_from] if is_running(forked_from) else [])
    assert (await workers.ready())["workers"] == {"ready": 2, "of": 2}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await workers.all_are_ready()
    assert not set(workers.pids(WORKER)) & set(before)


async def test_a_worker_that_gets_no_process_is_tried_again(workers: Workers):
    supervisor = workers.served.process.pid
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        os.kill(workers.pids(WORKER)[0], signal.SIGKILL)
        await workers.served.says("cannot be started (Cannot listen on")
        assert (await workers.ready())["status"] == "ready"
    finally:
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
    await workers.all_are_ready()


async def test_nothing_is_left_of_a_gateway_that_was_killed(workers: Workers):
    pids = workers.pids()
    assert len(pids) == PROCESSES
    workers.served.process.send_signal(signal.SIGSTOP)
    await anyio.sleep(2 * HEARTBEAT_SECONDS)  # what the workers tell now is never read
    assert await workers.served.stop(signal.SIGKILL) == -signal.SIGKILL
    await gone(lambda: [pid for pid in pids if is_running(pid)])
    await gone(lambda: list((workers.served.log.parent / "data").glob("*.sock")))


async def gone(left: Callable[[], list[Any]]) -> None:
    with anyio.fail_after(START_SECONDS):
        while left():  # noqa: ASYNC110 - they are no children of ours
            await anyio.sleep(0.01)


async def test_what_runs_may_finish_when_all_workers_are_told_to_stop(tmp_path: Path):
    async with running_fake_model_server() as fake, running(tmp_path, fake) as workers:
        fake.models.append("fake:hold-3")
        viewers = [Viewer() for _ in range(4)]
        pids = workers.pids()
        async with anyio.create_task_group() as tasks:
            for viewer in viewers:
                tasks.start_soon(viewer.watch, workers, await workers.start("fake:hold-3"))
            with anyio.fail_after(START_SECONDS):
                while len(fake.requests) < len(viewers) or not all(viewer.sequence for viewer in viewers):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            workers.served.process.send_signal(signal.SIGTERM)
            await refusal(workers.served, workers.token)
            for request in fake.requests:
                request.release()
        assert [(viewer.end, viewer.text) for viewer in viewers] == [("GenerationCompleted", "0 1 2 ")] * len(viewers)
        assert await workers.served.process.wait() == 0
        await gone(lambda: [pid for pid in pids if is_running(pid)])
        assert "Traceback" not in workers.served.errors


@pytest.mark.parametrize("name", ["valkey-server", WORKER])
async def test_a_stop_in_the_middle_of_a_start_is_obeyed(tmp_path: Path, name: str):
    values = environment(tmp_path / "data", OLLAMA_URL="", **SETTINGS)
    with PreloadedProcess(["serve"], tmp_path, values, tmp_path / "log") as process:
        with anyio.fail_after(START_SECONDS):
            while not descendants(process.pid, name):  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.001)
            pids = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert await anyio.Path(tmp_path / "log").read_text() == ""
    await gone(lambda: [pid for pid in pids if is_running(pid)])


@pytest.mark.parametrize(("letters", "method"), [(LONGEST_FOLDER, "forkserver"), (LONGEST_FOLDER + 1, "spawn")])
def test_workers_are_forked_where_the_socket_for_it_has_a_place(
    monkeypatch: pytest.MonkeyPatch, letters: int, method: str
):
    monkeypatch.setattr(tempfile, "tempdir", "/".ljust(letters, "x"))
    assert start_method().get_start_method() == method


def test_a_start_that_cannot_succeed_ends_with_its_reason_and_nothing_else(tmp_path: Path):
    found = run_command(
        tmp_path / "data", "serve", WORKERS="2", OLLAMA_URL="", DATABASE_URL="postgresql://localhost:1/x"
    )
    assert found.returncode == 1
    assert found.stderr.startswith("Error: ")
    assert (found.stderr.count("Error:"), "Traceback" in found.stderr) == (1, False)
