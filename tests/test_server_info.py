"""What clients may know of an installation."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from server.server_info import server_info
from server.settings import Settings
from tests.support.gateways import GraphQLErrors, RunningGateway, gateway_settings

SERVER_INFO = """
{ serverInfo {
  version introspection streamRetentionSeconds textRetentionSeconds sharedStreamLog automaticPersistedQueries
  trustedDocuments subscriptionTransports
} }
"""


def settings(tmp_path: Path, **others: Any) -> Settings:
    return gateway_settings(tmp_path, "sqlite://", None, **others)


async def test_a_caller_with_any_scope_sees_the_version_and_the_features(gateway: RunningGateway):
    gateway.token = (await gateway.make_key("app", scopes=["KEYS_WRITE"]))["secret"]
    assert (await gateway.run(SERVER_INFO))["serverInfo"] == {
        "version": version("ollagraph"),
        "introspection": "EVERYBODY",
        "streamRetentionSeconds": 3600.0,
        "textRetentionSeconds": 0.0,
        "sharedStreamLog": False,
        "automaticPersistedQueries": True,
        "trustedDocuments": "OFF",
        "subscriptionTransports": ["GRAPHQL_TRANSPORT_WS", "GRAPHQL_SSE", "MULTIPART_HTTP"],
    }


async def test_nobody_sees_nothing(gateway: RunningGateway):
    gateway.token = None
    with pytest.raises(GraphQLErrors) as refused:
        await gateway.run(SERVER_INFO)
    assert refused.value.code == "UNAUTHENTICATED"


def test_the_settings_decide_what_is_told(tmp_path: Path):
    file = tmp_path / "documents.json"
    file.write_text("{}")
    info = server_info(
        settings(
            tmp_path, introspection=False, trusted_documents="only", trusted_documents_path=file, text_retention=60
        )
    )
    assert (info.introspection, info.trusted_documents, info.text_retention) == ("NOBODY", "ONLY", 60)
    assert not info.automatic_persisted_queries


def test_no_secret_is_told(tmp_path: Path):
    secret = "s3cret" * 8
    info = server_info(settings(tmp_path, secret_key=SecretStr(secret), redis_url=f"redis://:{secret}@localhost/0"))
    assert info.shared_stream_log
    assert secret not in repr(info)
