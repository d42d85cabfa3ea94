"""Measures what logs, metrics, traces and plugins cost: `python -m bench.observing`. The gateways take turns.

Each is asked for tokens by 16 streams, which tells the processor time of a token, and for short answers by one stream,
which tells the time to the first token. The spans go to a receiver that takes and forgets them.
"""

import argparse
import statistics
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import anyio

from bench import latency, paths, processes, tokens
from tests.support.ports import free_port

STREAMS, SECONDS, ANSWERS = 16, 4.0, 8

WATCHER = """from gateway.plugins import Plugin
class Watcher(Plugin):
    async def on_event(self, generation, events): ...
    async def on_usage(self, usage): ...
"""


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def receiver() -> Generator[str]:
    """The address of a receiver of spans."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield "http://127.0.0.1:{}".format(*server.server_address[1:])
        server.shutdown()


def kinds(folder: Path, spans: str) -> dict[str, dict[str, str]]:
    """What is switched on in each gateway."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "watcher.py").write_text(WATCHER)
    return {
        "nothing": {},
        "logs": {"LOG_LEVEL": "info"},
        "metrics": {"METRICS_PORT": str(free_port())},
        "traces, sampled off": {"TRACES": "true", "OTEL_TRACES_SAMPLER": "always_off"},
        "traces, all": {"TRACES": "true", "OTEL_TRACES_SAMPLER": "always_on", "OTEL_EXPORTER_OTLP_ENDPOINT": spans},
        "a plugin that watches": {"PLUGINS_DIR": str(plugins)},
    }


async def measure(gateways: dict[str, paths.Path], rounds: int) -> None:
    """Print, of each gateway, the medians over the rounds."""
    rates: dict[str, list[tokens.Rate]] = {name: [] for name in gateways}
    firsts: dict[str, list[float]] = {name: [] for name in gateways}
    for number in range(rounds):
        order = list(gateways.items())
        for name, path in order if number % 2 == 0 else order[::-1]:
            rates[name].append(await tokens.rate(path, STREAMS, SECONDS))
            firsts[name].append((await latency.times(path, 1, ANSWERS)).summary()["first_median"])
    print("| with | tokens/s | processor time of a token (us) | first token (ms) |\n|---|---|---|---|")
    for name in gateways:
        speed = statistics.median(rate.tokens_per_second for rate in rates[name])
        cost = statistics.median(rate.microseconds_per_token for rate in rates[name])
        print(f"| {name} | {speed:,.0f} | {cost:.1f} | {statistics.median(firsts[name]):.1f} |")


def main() -> None:
    """Start one gateway of each kind and measure them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    processes.allow_open_files()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        models, spans = stack.enter_context(processes.fake_model_server(folder)), stack.enter_context(receiver())
        gateways: dict[str, paths.Path] = {}
        for kind, settings in kinds(folder, spans).items():
            own = folder / kind
            own.mkdir()
            started = stack.enter_context(processes.gateway(own, models, **settings))
            gateways[kind] = paths.gateway(started.url, started.key, started.pid, kind)
        anyio.run(measure, gateways, rounds, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
