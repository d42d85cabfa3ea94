"""The settings: documented in two places, read from the environment, and refused where they are wrong or insecure."""

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from server.settings import PREFIX, Settings, SettingsError, load_settings, secret_settings, unread_settings
from server.settings.environment import ORIGINAL_NAMES

ROOT = Path(__file__).parent.parent
SECRET = "kP9x-2mWq-7fHd-31zT-v8Ra-0bNc-5yLe"
DASH = "\N{EN DASH}"

ROW = re.compile(r"^\| `(\w+)` \| (\S.*?) \| (.+) \|$", re.MULTILINE)
ENTRY = re.compile(r"^# (.+)\n# (OLLAGRAPH_\w+)=(.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Nothing of the machine's: no variable and no file .env."""
    for name in [*(f"{PREFIX}{field.upper()}" for field in Settings.model_fields), *ORIGINAL_NAMES]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def default_of(name: str) -> str:
    """The default as one writes it in the environment; empty where the description tells it, or there is none."""
    field = Settings.model_fields[name]
    value: Any = field.get_default(call_default_factory=name != "data_dir")
    if value is None or name == "data_dir":
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def documented() -> list[tuple[str, str, str]]:
    """What the documentation must tell: variable, default, meaning. Each page has an order of its own."""
    return sorted(
        (PREFIX + name.upper(), default_of(name), str(field.description))
        for name, field in Settings.model_fields.items()
    )


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What the gateway says to an environment that it does not take."""
    for name, value in environment.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_the_documentation_lists_every_setting_with_its_default_and_meaning():
    rows = ROW.findall((ROOT / "docs" / "settings.md").read_text())
    listed = [(name, "" if default == DASH else default.strip("`"), meaning) for name, default, meaning in rows]
    assert sorted(listed) == documented()


def test_the_example_file_lists_every_setting_with_its_default_and_meaning():
    entries = ENTRY.findall((ROOT / ".env.example").read_text())
    assert sorted((name, default, meaning) for meaning, name, default in entries) == documented()


def test_the_example_file_sets_nothing():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_example_file_with_every_line_taken_in_is_what_the_defaults_are(tmp_path: Path):
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(example.replace(f"# {PREFIX}", PREFIX))
    assert load_settings() == Settings(_env_file=None)  # pyright: ignore[reportCallIssue]


def test_every_setting_is_used():
    sources = [path.read_text() for path in (ROOT / "server").rglob("*.py")]
    unused = [
        name
        for name in Settings.model_fields
        if not any(re.search(rf"\b(settings|self)\.{name}\b", source) for source in sources)
    ]
    assert unused == []


def test_a_file_env_is_read(tmp_path: Path):
    (tmp_path / ".env").write_text("OLLAGRAPH_PORT=8123\n")
    assert load_settings().port == 8123


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".env").write_text("OLLAGRAPH_PORT=8123\n")
    monkeypatch.setenv("OLLAGRAPH_PORT", "8124")
    assert load_settings().port == 8124


def test_what_is_set_to_nothing_counts_as_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_PORT", "")
    assert load_settings().port == 8000


def test_the_origins_are_a_list_in_json(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_CORS_ORIGINS", '["https://a.example", "https://b.example"]')
    assert load_settings().cors_origins == ["https://a.example", "https://b.example"]


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_secret_is_not_in_what_is_printed_of_the_settings(monkeypatch: pytest.MonkeyPatch):
    for name in ("SECRET_KEY", "ADMIN_PASSWORD", "OPENAI_API_KEY", "DATABASE_URL"):
        monkeypatch.setenv(PREFIX + name, SECRET)
    assert SECRET not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "70000"),
        ("ENVIRONMENT", "staging"),
        ("EMBEDDED", "perhaps"),
        ("OLLAMA_PARALLEL", "0"),
        ("CORS_ORIGINS", "https://a.example"),
        ("CORS_ORIGINS", '{"a": 1}'),
        ("LOG_LEVEL", "loud"),
        ("PATH_PREFIX", "ai"),
        ("PATH_PREFIX", "/a/../b"),
        ("PATH_PREFIX", "/a//b"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    assert refusal(monkeypatch, **{name: value}).startswith(f"OLLAGRAPH_{name}")


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch):
    sentences = refusal(monkeypatch, PORT="abc", MAX_QUEUED="-1").splitlines()
    assert [sentence.partition(":")[0] for sentence in sentences] == ["OLLAGRAPH_PORT", "OLLAGRAPH_MAX_QUEUED"]


def test_a_refusal_holds_no_value(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, SECRET_KEY="hunter2", ADMIN_PASSWORD="hunter2", PORT="hunter2", CORS_ORIGINS="[]")
    assert "hunter2" not in said


def test_a_short_secret_is_refused_and_told_how_to_make_one(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, SECRET_KEY="short")
    assert said == "OLLAGRAPH_SECRET_KEY must have at least 32 bytes: openssl rand -hex 32"


def test_every_origin_together_with_credentials_is_refused(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, CORS_ORIGINS='["*"]', CORS_CREDENTIALS="true")
    assert said == "OLLAGRAPH_CORS_ORIGINS may not be * together with OLLAGRAPH_CORS_CREDENTIALS: name the origins"


def test_production_wants_a_secret(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, ENVIRONMENT="production")
    assert said == "set OLLAGRAPH_SECRET_KEY in production: openssl rand -hex 32"


def test_production_refuses_to_tell_internal_errors(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, ENVIRONMENT="production", SECRET_KEY=SECRET, DEBUG="true")
    assert said == "unset OLLAGRAPH_DEBUG in production: it tells internal errors to clients"


def test_production_starts_with_a_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_ENVIRONMENT", "production")
    monkeypatch.setenv("OLLAGRAPH_SECRET_KEY", SECRET)
    assert load_settings().environment == "production"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", " Debug\n", "debug"),
        ("ENVIRONMENT", "Development", "development"),
        ("TRUSTED_DOCUMENTS", "OFF", "off"),
        ("EMBEDDED", "False", False),
        ("EMBEDDED", " no ", False),
        ("CHECK_ORIGIN", "ON", True),
        ("PORT", " 8001\n", 8001),
        ("OLLAMA_URL", " http://localhost:11434\n", "http://localhost:11434"),
        ("HOST", "[::1]", "::1"),
        ("ALLOWED_HOSTS", '[" a.example "]', ["a.example"]),
        ("TRUSTED_PROXIES", '["10.1.2.3/8", "::1"]', ["10.0.0.0/8", "::1/128"]),
        ("CORS_ORIGINS", '["HTTPS://A.example:443/", "http://a:80", "https://bücher.example"]',
         ["https://a.example", "http://a", "https://xn--bcher-kva.example"]),
        ("REDIS_URL", "   ", None),
        ("PATH_PREFIX", "/ai/v1/", "/ai/v1"),
    ],
)  # fmt: skip
def test_a_value_is_taken_in_the_forms_in_which_people_write_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, found: Any
):
    monkeypatch.setenv(PREFIX + name, value)
    assert getattr(load_settings(), name.lower()) == found


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("SECRET_KEY", f" {SECRET}\n", SECRET),
        ("OPENAI_API_KEY", "\tkey\r\n", "key"),
        ("DATABASE_URL", "sqlite:///x.db\n", "sqlite:///x.db"),
        ("ADMIN_PASSWORD", " a blank may be meant \n", " a blank may be meant "),
    ],
)
def test_a_secret_is_taken_without_the_white_space_around_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, found: str
):
    monkeypatch.setenv(PREFIX + name, value)
    assert getattr(load_settings(), name.lower()).get_secret_value() == found


@pytest.mark.parametrize("name", ["DATA_DIR", "EMBEDDED_MODEL", "TRUSTED_DOCUMENTS_PATH"])
def test_a_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(PREFIX + name, "~/x")
    assert getattr(load_settings(), name.lower()) == tmp_path / "x"


def test_a_file_env_may_begin_with_the_mark_of_an_editor(tmp_path: Path):
    (tmp_path / ".env").write_text("OLLAGRAPH_PORT=8123\n", encoding="utf-8-sig")
    assert load_settings().port == 8123


OF_KUBERNETES = {
    "OLLAGRAPH_PORT": "tcp://10.0.0.1:8000",
    "OLLAGRAPH_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "OLLAGRAPH_PORT_8000_TCP_PROTO": "tcp",
    "OLLAGRAPH_PORT_8000_TCP_PORT": "8000",
    "OLLAGRAPH_PORT_8000_TCP_ADDR": "10.0.0.1",
    "OLLAGRAPH_SERVICE_HOST": "10.0.0.1",
    "OLLAGRAPH_SERVICE_PORT": "8000",
    "OLLAGRAPH_SERVICE_PORT_HTTP": "8000",
    "OLLAGRAPH_POSTGRES_PORT": "tcp://10.0.0.2:5432",
    "OLLAGRAPH_POSTGRES_SERVICE_HOST": "10.0.0.2",
}
"""What a container sees that runs beside services called `ollagraph` and `ollagraph-postgres`."""


def test_what_kubernetes_sets_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, value in OF_KUBERNETES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("OLLAGRAPH_PORT=8123\n")
    assert load_settings().port == 8123
    assert unread_settings() == [
        "OLLAGRAPH_PORT in the environment is the address of a Kubernetes service, and counts as not set."
    ]


def test_a_name_that_is_no_setting_is_told_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OLLAGRAPH_ALOWED_HOSTS", "hunter2")
    monkeypatch.setenv("OLLAGRAPH_ENV", "production")
    monkeypatch.setenv("OLLAGRAPH_NEW_PASSWORD", "hunter2")
    (tmp_path / ".env").write_text("ollagraph_reddis_url=hunter2\nOLLAGRAPH_XYZZY=hunter2\nOTHER=1\n")
    assert unread_settings() == [
        "OLLAGRAPH_ALOWED_HOSTS in the environment is not a setting. Is OLLAGRAPH_ALLOWED_HOSTS meant?",
        "OLLAGRAPH_ENV in the environment is not a setting. Is OLLAGRAPH_ENVIRONMENT meant?",
        "OLLAGRAPH_REDDIS_URL in .env is not a setting. Is OLLAGRAPH_REDIS_URL meant?",
        "OLLAGRAPH_XYZZY in .env is not a setting.",
    ]


@pytest.mark.parametrize("secret", ["a" * 64, "ab" * 32, "changeme" * 4, "0123456789abcdefghijklmnopqrstuvwxyz"])
def test_production_refuses_a_secret_that_can_be_guessed(monkeypatch: pytest.MonkeyPatch, secret: str):
    said = refusal(monkeypatch, ENVIRONMENT="production", SECRET_KEY=secret)
    assert said.startswith("OLLAGRAPH_SECRET_KEY can be guessed")


@pytest.mark.parametrize(("passes", "least"), [(1, 47_104), (2, 19_456), (3, 12_288), (4, 9_216), (7, 7_168)])
def test_production_refuses_hashes_that_are_too_cheap(monkeypatch: pytest.MonkeyPatch, passes: int, least: int):
    values = {"ENVIRONMENT": "production", "SECRET_KEY": SECRET, "ARGON2_TIME_COST": str(passes)}
    said = refusal(monkeypatch, **values, ARGON2_MEMORY_KIB=str(least - 1))
    assert said.startswith(f"OLLAGRAPH_ARGON2_MEMORY_KIB must be at least {least} in production")
    monkeypatch.setenv("OLLAGRAPH_ARGON2_MEMORY_KIB", str(least))
    assert load_settings().argon2_time_cost == passes


def test_a_lane_needs_memory(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, ARGON2_MEMORY_KIB="31", ARGON2_PARALLELISM="4")
    assert said.startswith("OLLAGRAPH_ARGON2_MEMORY_KIB must be at least 8 times")


@pytest.mark.parametrize(("environment", "least"), [("development", 8), ("production", 15)])
def test_passwords_are_longer_in_production(monkeypatch: pytest.MonkeyPatch, environment: str, least: int):
    for name, value in {"ENVIRONMENT": environment, "SECRET_KEY": SECRET}.items():
        monkeypatch.setenv(PREFIX + name, value)
    assert load_settings().least_password_length == least
    monkeypatch.setenv("OLLAGRAPH_PASSWORD_MIN_LENGTH", "12")
    assert load_settings().least_password_length == 12


def test_production_needs_no_secret_where_key_pairs_sign(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_ENVIRONMENT", "production")
    monkeypatch.setenv("OLLAGRAPH_SIGNING_KEYS", "keys")
    assert load_settings().secret_key is None


ONLY_IN_DEVELOPMENT = {
    "PAGE": "serves_page",
    "SUGGESTIONS": "gives_suggestions",
}


@pytest.mark.parametrize("name", ONLY_IN_DEVELOPMENT)
def test_what_helps_a_developer_is_off_in_production_unless_asked_for(monkeypatch: pytest.MonkeyPatch, name: str):
    found = [getattr(load_settings(), ONLY_IN_DEVELOPMENT[name])]
    monkeypatch.setenv("OLLAGRAPH_ENVIRONMENT", "production")
    monkeypatch.setenv("OLLAGRAPH_SECRET_KEY", SECRET)
    found.append(getattr(load_settings(), ONLY_IN_DEVELOPMENT[name]))
    monkeypatch.setenv(f"OLLAGRAPH_{name}", "true")
    found.append(getattr(load_settings(), ONLY_IN_DEVELOPMENT[name]))
    assert found == [True, False, True]


def test_every_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    special = {"webhook_url": "https://hooks.example/x", "webhook_secret": f"whsec_{b64encode(bytes(32)).decode()}"}
    wanted = {name: special.get(name, f"{SECRET}-{name}") for name in secret_settings(Settings)}
    for name, secret in wanted.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(f"{PREFIX}{name.upper()}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert {name: getattr(settings, name).get_secret_value() for name in wanted} == wanted
    assert {"secret_key", "admin_password", "database_url", "redis_url", "openai_api_key"} <= set(wanted)
    assert unread_settings() == []


def test_a_file_named_in_env_goes_after_a_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "key").write_text("of the file")
    (tmp_path / ".env").write_text(f"OLLAGRAPH_OPENAI_API_KEY_FILE={tmp_path / 'key'}\n")
    assert load_settings().openai_api_key == SecretStr("of the file")
    monkeypatch.setenv("OLLAGRAPH_OPENAI_API_KEY", "of the environment")
    assert load_settings().openai_api_key == SecretStr("of the environment")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)."),
        (b"\n", "is empty."),
        (b"\xff\xfe", "is not text in UTF-8."),
        (b"a" * 65_537, "has more than 65,536 bytes, and is no secret."),
    ],
)
def test_a_secret_file_that_is_none_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    assert refusal(monkeypatch, SECRET_KEY_FILE=str(file)) == f"OLLAGRAPH_SECRET_KEY_FILE: {file} {said}"


def test_a_secret_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch):
    said = refusal(monkeypatch, SECRET_KEY=SECRET, SECRET_KEY_FILE="x")
    assert said == "Set OLLAGRAPH_SECRET_KEY or OLLAGRAPH_SECRET_KEY_FILE, not both."


def test_what_is_no_secret_is_not_read_from_a_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_HOST_FILE", "x")
    [remark] = unread_settings()
    assert remark.startswith("OLLAGRAPH_HOST_FILE in the environment is not a setting.")


def test_an_original_name_is_told_unless_its_equal_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WORKERS", "4")
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.setenv("OLLAGRAPH_SECRET_KEY", SECRET)
    (tmp_path / ".env").write_text("OLLAMA_API_BASE_URL=http://localhost:11434\nDEBUG=\n")
    assert unread_settings() == [
        "WORKERS in the environment is not read. Set OLLAGRAPH_WORKERS instead.",
        "OLLAMA_API_BASE_URL in .env is not read. Set OLLAGRAPH_OLLAMA_URL instead.",
    ]


def test_the_documentation_lists_every_original_name_with_an_equal_that_is_there():
    text = (ROOT / "docs" / "settings.md").read_text().partition("## Names without a prefix")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert sorted(rows) == sorted(ORIGINAL_NAMES)
    told = {name: re.findall(rf"{PREFIX}\w+", sentence) for name, sentence in ORIGINAL_NAMES.items()}
    assert [name for name, equals in told.items() if any(f"`{it}`" not in rows[name] for it in equals)] == []


@pytest.mark.parametrize("name", ["HOST", "DATA_DIR", "SECRET_KEY", "ADMIN_PASSWORD", "CORS_ORIGINS"])
def test_a_variable_that_is_not_text_is_refused(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(f"{PREFIX}{name}", b"/a/\xff".decode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match=f"^{PREFIX}{name} is not text in UTF-8"):
        load_settings()
