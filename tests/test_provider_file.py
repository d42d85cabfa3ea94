"""Identity providers in a file: any number of each kind, and what is said of one that cannot work."""

from pathlib import Path

import pytest

from server.settings import SettingsError
from server.sign_in import make_providers
from tests.support.gateways import gateway_settings

OIDC = 'kind = "oidc"\nissuer = "https://a.example"\nclient_id = "x"\n'
GITHUB = 'kind = "github"\nclient_id = "x"\nclient_secret = "s3cret"\n'


def names(folder: Path, text: str, **settings: object) -> list[str]:
    """The names of the providers of a file, and of the settings before them."""
    file = folder / "providers.toml"
    file.write_text(text)
    made = make_providers(gateway_settings(folder, "sqlite://", None, providers_file=file, **settings))
    return [provider.name for provider in (*made.passwords, *made.redirects)]


async def test_there_may_be_several_providers_of_a_kind(tmp_path: Path):
    text = f"[b]\n{OIDC}label = 'B'\nroles = {{ ops = 'admin' }}\n[a]\n{OIDC}[ghe]\n{GITHUB}url = 'https://g.example'"
    given = {"oidc_issuer": "https://c.example", "oidc_client_id": "y"}
    assert names(tmp_path, text, **given) == ["oidc", "b", "a", "ghe"]


async def test_the_environment_fills_in_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAGRAPH_OIDC_CLIENT_ID", "of another provider")
    with pytest.raises(SettingsError, match=r"\[a\]: a: client_id is missing"):
        names(tmp_path, '[a]\nkind = "oidc"\nissuer = "https://a.example"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "is not TOML"),
        ("a = 1", "[a]: must be a table"),
        ("[a]\nissuer = 'https://a.example'", "[a]: kind must be one of oidc, ldap, github."),
        (f"[a]\n{OIDC}isuer = 1", "[a]: isuer is not an option of oidc. Is issuer meant?"),
        (f"[a]\n{OIDC}name = 'b'", "[a]: name is not an option of oidc."),
        (f"[a]\n{OIDC}timeout = 'soon'", "[a]: timeout: Input should be a valid number"),
        (f"[a]\n{OIDC}roles = {{ ops = 'Not a role' }}", "[a]: roles: 'Not a role' cannot be a role"),
        (f"[a]\n{OIDC}[b]\nkind = 'github'\n[c]\nkind = 'x'", "[c]: kind must be"),
        ("[a]\nkind = 'github'\nclient_id = 'x'", "[a]: a: client_id and client_secret"),
        (f"[password]\n{OIDC}", "may be named 'password'"),
        (f"[oidc]\n{OIDC}", "Two identity providers are named 'oidc'"),
        (f"[A]\n{OIDC}", "must begin with a lower-case letter"),
    ],
)
def test_what_cannot_work_is_told_with_its_place(tmp_path: Path, text: str, said: str):
    given = {"oidc_issuer": "https://c.example", "oidc_client_id": "y"}
    with pytest.raises(SettingsError) as refusal:
        names(tmp_path, text, **given)
    assert said in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    settings = gateway_settings(tmp_path, "sqlite://", None, providers_file=tmp_path / "nothing.toml")
    with pytest.raises(SettingsError, match=r"OLLAGRAPH_PROVIDERS_FILE: .*nothing.toml cannot be read"):
        make_providers(settings)


async def test_a_secret_may_be_in_a_file_of_its_own(tmp_path: Path):
    (tmp_path / "secret").write_text("s3cret\n")
    text = f'[ghe]\nkind = "github"\nclient_id = "x"\nclient_secret_file = "{tmp_path / "secret"}"'
    assert names(tmp_path, text) == ["ghe"]
    with pytest.raises(SettingsError, match=r"\[ghe\]: set client_secret, or the path of a file .*, not both"):
        names(tmp_path, f'{text}\nclient_secret = "y"')
    (tmp_path / "secret").write_text("")
    with pytest.raises(SettingsError, match=r"\[ghe\]: client_secret_file: .*secret is empty"):
        names(tmp_path, text)
