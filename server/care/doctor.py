"""`ollagraph doctor`: looks at everything that a gateway needs, one thing after the other, whatever is broken.

A check reads, and changes nothing; the one exception is a key in Valkey that it removes again. What is wrong with one
thing keeps no other from being looked at, unless there is nothing to look at without it.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import click
import orjson

from backends.embedded import library_fault
from backends.errors import BackendError
from backends.ollama import OllamaBackend
from backends.openai import OpenAIBackend
from gateway.tasks import in_forgettable_thread
from server.backends import embedded_backend, remote_backends
from server.care.findings import Finding, State, fail, ok, warn
from server.care.machine import check_data_dir, check_leftovers, check_open_files, check_port
from server.care.stores import check_database, check_streams
from server.execution import trusted_documents
from server.page import page_folder
from server.settings import Settings, SettingsError, load_settings, unread_settings
from server.sign_in import make_providers
from server.signing_keys import SigningKeys

CHECK_SECONDS = 30.0
"""How long one check may take. A thorough one reads the whole database, and has no limit."""

_SEE_SETTINGS = "See docs/settings.md."


async def run_doctor(*, as_json: bool, thorough: bool) -> bool:
    """Print what the checks find; tell whether nothing has failed."""
    found: list[Finding] = []
    async for finding in _findings(thorough=thorough):
        found.append(finding)
        if not as_json:
            click.echo(finding.line())
    failed = sum(finding.state is State.FAIL for finding in found)
    warned = sum(finding.state is State.WARN for finding in found)
    if as_json:
        state = State.FAIL if failed else State.WARN if warned else State.OK
        checks = [finding.entry() for finding in found]
        click.echo(orjson.dumps({"state": state.value, "checks": checks}, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(f"\n{failed} failed, {warned} warnings, {len(found) - failed - warned} ok.")
    return not failed


async def _findings(*, thorough: bool) -> AsyncGenerator[Finding, None]:
    yield check_open_files()
    settings: Settings | None = None
    try:
        settings = load_settings()
    except SettingsError as error:
        for line in str(error).splitlines():
            yield fail("settings", line, _SEE_SETTINGS)
    if settings is None:
        yield warn("settings", "everything else was not looked at", "Fix the settings, and start again.")
        return
    for remark in unread_settings():
        yield warn("settings", remark, "Correct or remove it.")
    yield _settings(settings)
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("data folder", lambda: _in_thread(lambda: [*check_data_dir(settings), *check_leftovers(settings)])),
        ("keys", lambda: _in_thread(lambda: _files(settings))),
        ("port", lambda: _in_thread(lambda: [check_port(settings)])),
        ("database", lambda: check_database(settings, thorough=thorough)),
        ("valkey", lambda: check_streams(settings)),
        ("backends", lambda: _backends(settings)),
    ]
    for name, check in checks:
        for finding in await _guarded(name, check, None if thorough else CHECK_SECONDS):
            yield finding


async def _in_thread(work: Callable[[], list[Finding]]) -> list[Finding]:
    return await in_forgettable_thread(work)


async def _guarded(name: str, check: Callable[[], Awaitable[list[Finding]]], seconds: float | None) -> list[Finding]:
    """Do a check; one that breaks or hangs is a finding, too."""
    try:
        with anyio.fail_after(seconds):
            return await check()
    except TimeoutError:
        return [fail(name, f"no answer within {CHECK_SECONDS:g} s", "See whether it is overloaded or out of reach.")]
    except Exception as error:
        told = f"the check failed: {type(error).__name__}: {error}"
        return [fail(name, told, "This is a mistake in Ollagraph: please report it.")]


def _settings(settings: Settings) -> Finding:
    given = len(settings.model_fields_set)
    if settings.environment == "development" and settings.answers_to == ["*"]:
        return warn(
            "settings",
            f"{settings.host} can be reached from other machines in the environment for development",
            "Set OLLAGRAPH_ENVIRONMENT=production, and OLLAGRAPH_ALLOWED_HOSTS.",
        )
    return ok("settings", f"{given} set, for {settings.environment}")


def _files(settings: Settings) -> list[Finding]:
    """Read the files that settings name, as a start does; but no secret is made."""
    found: list[Finding] = []
    try:
        trusted_documents(settings)
        make_providers(settings)
        if settings.signing_keys is not None:
            keys = SigningKeys(settings).keys
            found.append(ok("signing keys", f"{len(keys.public)} published"))
    except SettingsError as error:
        found.append(fail("settings", str(error), _SEE_SETTINGS))
    if settings.serves_page and page_folder() is None:
        found.append(warn("page", "it has not been built", "Run `make page`, or set OLLAGRAPH_PAGE=false."))
    return found


async def _backends(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    try:
        remote = remote_backends(settings)
        if settings.embedded:
            embedded_backend(settings)
            found.append(await _embedded())
    except SettingsError as error:
        return [fail("backends", str(error), _SEE_SETTINGS)]
    for backend in remote:
        found.append(await _backend(backend))
        await backend.aclose()
    if not settings.embedded and not remote:
        advice = "Set OLLAGRAPH_OLLAMA_URL or OLLAGRAPH_OPENAI_URL, or OLLAGRAPH_EMBEDDED=true."
        found.append(fail("backends", "there is none, so no model", advice))
    return found


async def _embedded() -> Finding:
    if (fault := await library_fault()) is None:
        return ok("backend embedded", "its model is there, and its library can be loaded")
    advice = "Install what it names (libgomp.so.1 is in Debian's libgomp1), or set OLLAGRAPH_EMBEDDED=false."
    return fail("backend embedded", f"its library cannot be loaded: {fault}", advice)


async def _backend(backend: OllamaBackend | OpenAIBackend) -> Finding:
    check = f"backend {backend.name}"
    advice = "Start it, or correct its address. Other backends' models can be used meanwhile."
    try:
        with anyio.fail_after(CHECK_SECONDS / 2):
            models = await backend.models()
    except BackendError as error:
        return fail(check, str(error), advice)
    except TimeoutError:
        return fail(check, f"no answer within {CHECK_SECONDS / 2:g} s", advice)
    if not models:
        return warn(check, "it has no models", "Pull one, as in: ollama pull llama3.2")
    return ok(check, f"{len(models)} models, such as {models[0].name}")
