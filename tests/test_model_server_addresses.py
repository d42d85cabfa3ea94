"""The address and the key of a model server: taken as people write them, or refused at the start with what to write."""

from contextlib import aclosing

import pytest
from pydantic import SecretStr

from backends.errors import BackendError
from backends.ollama.backend import OllamaBackend
from backends.openai import OpenAIBackend
from backends.protocol import ChatRequest, Message
from server.settings import Settings, SettingsError, load_settings
from tests.support.fake_model_server import FakeModelServer

HELLO = ChatRequest("fake:echo", [Message("user", "hello")])
HEMLIG = "hemlig-hemlig"


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.chdir("/")  # where there is no .env
    monkeypatch.setenv(f"OLLAGRAPH_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    said = str(caught.value)
    assert said.startswith(f"OLLAGRAPH_{name}: "), said
    assert HEMLIG not in said
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("", "/v1"),
        ("/", "/v1"),
        ("/v1", "/v1"),
        ("//v1//", "/v1"),
        ("/proxy", "/proxy/v1"),
        ("/models/small", "/models/small/v1"),
        ("/proxy/v1/", "/proxy/v1"),
        ("/api/paas/v4", "/api/paas/v4"),
        ("/v1beta/openai", "/v1beta/openai"),
        ("/v1beta/openai/", "/v1beta/openai"),
        ("/v1/account/gateway/openai", "/v1/account/gateway/openai"),
        ("/vllm", "/vllm/v1"),
        ("/v2.1", "/v2.1"),
    ],
)
async def test_a_version_in_the_path_stays_and_one_is_added_to_others(fake: FakeModelServer, path: str, base: str):
    settings = Settings(_env_file=None, openai_url=fake.url + path)  # pyright: ignore[reportCallIssue]
    fake.replies = {f"{base}/models": (200, b'{"data": [{"id": "m"}]}')}
    for address in (fake.url + path, str(settings.openai_url)):
        async with aclosing(OpenAIBackend("openai", address)) as backend:
            assert [model.name for model in await backend.models()] == ["m"]
            await backend.ping()
            if base != "/v1":
                with pytest.raises(BackendError):
                    async with backend.generate(HELLO):
                        pass
                assert fake.asked[-1] == f"POST {base}/chat/completions"


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("http://h:1/v1/chat/completions", "Write http://h:1/v1 instead."),
        ("http://h:1/v1/chat/completions/", "Write http://h:1/v1 instead."),
        ("http://h:1/V1/Chat/Completions", "Write http://h:1/V1 instead."),
        ("http://h/v1/completions", "Write http://h/v1 instead."),
        ("http://h/v1/models", "Write http://h/v1 instead."),
        ("http://h/v1/models/m", "Write http://h/v1 instead."),
        ("http://h/v1/chat", "Write http://h/v1 instead."),
        ("http://h/v1/embeddings", "Write http://h/v1 instead."),
        ("http://h/api/paas/v4/chat/completions", "Write http://h/api/paas/v4 instead."),
        ("http://h/completions", "Write http://h instead."),
        ("http://[::1]:8000/v1/models", "Write http://[::1]:8000/v1 instead."),
        (f"http://h/v1?key={HEMLIG}", "Write http://h/v1 instead."),
        ("http://h/v1?", "Write http://h/v1 instead."),
        (f"http://h/v1/models?key={HEMLIG}", "Write http://h/v1 instead."),
        (f"http://h/v1#{HEMLIG}", "Write http://h/v1 instead."),
        ("https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=1",
         "https://n.openai.azure.com/openai/v1."),
        (f"http://user:{HEMLIG}@h/v1", "Set the key in OLLAGRAPH_OPENAI_API_KEY instead."),
        (f"http://{HEMLIG}@h/v1", "Set the key in OLLAGRAPH_OPENAI_API_KEY instead."),
        (f"http://user:1/{HEMLIG}@h/v1", "Set the key in OLLAGRAPH_OPENAI_API_KEY instead."),
        (f"http://user:1?{HEMLIG}@h/v1", "Set the key in OLLAGRAPH_OPENAI_API_KEY instead."),
        (f"http://user:{HEMLIG}#@h/v1", "Set the key in OLLAGRAPH_OPENAI_API_KEY instead."),
        ("localhost:8000", "http://localhost:8000/v1."),
        ("h/v1", "http://localhost:8000/v1."),
        ("ftp://h/v1", "http://localhost:8000/v1."),
        ("http://", "http://localhost:8000/v1."),
        ("http://h:99999", "http://localhost:8000/v1."),
        ("http://h:x", "http://localhost:8000/v1."),
        ("http://[::1", "http://localhost:8000/v1."),
        ("http://h/v1 http://g/v1", "such as http://localhost:8000/v1."),
        ("http://h\n/v1", "such as http://localhost:8000/v1."),
    ],
)  # fmt: skip
def test_an_address_that_is_no_base_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, value: str, instead: str
):
    assert refusal(monkeypatch, "OPENAI_URL", value).endswith(instead)


@pytest.mark.parametrize("prefix", ["", "/ollama", "/api/ollama"])
@pytest.mark.parametrize("end", ["", "/", "/api", "/api/", "/v1", "/v1/", "/API"])
async def test_ollamas_address_may_end_with_its_apis(fake: FakeModelServer, prefix: str, end: str):
    settings = Settings(_env_file=None, ollama_url=fake.url + prefix + end)  # pyright: ignore[reportCallIssue]
    fake.replies = {f"{prefix}/api/version": (200, b'{"version": "1"}')}
    for address in (fake.url + prefix + end, str(settings.ollama_url)):
        async with aclosing(OllamaBackend("ollama", address)) as backend:
            await backend.ping()


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("http://h:11434/api/chat", "Write http://h:11434 instead."),
        ("http://h:11434/api/chat/", "Write http://h:11434 instead."),
        ("http://h:11434/api/generate", "Write http://h:11434 instead."),
        ("http://h:11434/api/tags", "Write http://h:11434 instead."),
        ("http://h:11434/v1/chat/completions", "Write http://h:11434 instead."),
        ("http://h:11434/v1/models", "Write http://h:11434 instead."),
        ("http://h/ollama/api/chat", "Write http://h/ollama instead."),
        (f"http://h/api?key={HEMLIG}", "Write http://h instead."),
        (f"http://h/#{HEMLIG}", "Write http://h instead."),
        (f"http://user:{HEMLIG}@h/api/chat", "Write http://h instead."),
        (f"http://user:1/{HEMLIG}@h", "as %40 and %2F."),
        ("localhost:11434", "http://localhost:11434."),
        ("localhost", "http://localhost:11434."),
    ],
)
def test_an_address_that_is_not_ollamas_base_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, value: str, instead: str
):
    assert refusal(monkeypatch, "OLLAMA_URL", value).endswith(instead)


async def test_an_ollama_behind_a_password_is_asked_with_it(fake: FakeModelServer):
    address = fake.url.replace("http://", "http://ada:secret@")
    async with aclosing(OllamaBackend("ollama", address)) as backend, backend.generate(HELLO) as batches:
        assert [batch async for batch in batches]
    assert fake.requests[0].headers["authorization"] == "Basic YWRhOnNlY3JldA=="


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (f"{HEMLIG}\nsecond", "holds a line break"),
        (f"{HEMLIG}\r\nX-Header: 1", "holds a line break"),
        (f"{HEMLIG}é", "a key is printable ASCII"),
        (f"“{HEMLIG}”", "a key is printable ASCII"),
        (f"{HEMLIG}\u200b", "a key is printable ASCII"),
        (f"{HEMLIG}\tx", "a key is printable ASCII"),
        (f"{HEMLIG}\x7f", "a key is printable ASCII"),
    ],
)
def test_a_key_that_no_header_can_hold_is_refused_by_its_own_variable(
    monkeypatch: pytest.MonkeyPatch, key: str, said: str
):
    monkeypatch.setenv("OLLAGRAPH_OPENAI_URL", "http://h")
    assert said in refusal(monkeypatch, "OPENAI_API_KEY", key)


@pytest.mark.parametrize("key", ["sk-proj-a_b.c~d+e/f==", "two words"])
def test_any_other_key_is_taken(key: str):
    assert Settings(_env_file=None, openai_api_key=SecretStr(key)).openai_api_key == SecretStr(key)  # pyright: ignore[reportCallIssue]
