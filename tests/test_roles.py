"""Roles that administrators define."""

import re
from pathlib import Path

import anyio
import pytest

from auth.roles import BUILT_IN_ROLES
from auth.scopes import ALL_SCOPES, Scope
from tests.support.gateways import GraphQLErrors, RunningGateway, refused_field
from tests.test_accounts import make, make_manager, mutate

DOCUMENT = Path(__file__).parent.parent / "docs" / "accounts.md"


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


async def me(gateway: RunningGateway) -> set[str]:
    return set((await gateway.run("{ viewer { scopes } }"))["viewer"]["scopes"])


async def test_a_role_decides_what_its_users_may_do_at_once(gateway: RunningGateway):
    made = await mutate(gateway, "createRole", "role", name="reader", scopes=["MODELS_READ", "MODELS_READ"])
    assert made["role"] == {"name": "reader", "scopes": ["MODELS_READ"]}
    await make(gateway, "ada", role="reader")
    admin, ada = gateway.token, await gateway.sign_in("ada")
    assert await me(gateway) == {"MODELS_READ"}
    gateway.token = admin
    await mutate(gateway, "updateRole", "role", name="reader", scopes=["MODELS_READ", "USAGE_READ"])
    gateway.token = ada
    assert await me(gateway) == {"MODELS_READ", "USAGE_READ"}


async def test_a_role_in_use_a_built_in_one_and_one_that_is_not_there_stay(gateway: RunningGateway):
    await mutate(gateway, "createRole", "role", name="reader", scopes=["MODELS_READ"])
    ada = await make(gateway, "ada", role="reader")
    in_use = await mutate(gateway, "deleteRole", "name", name="reader")
    assert (in_use["__typename"], in_use["code"]) == ("Conflict", "ROLE_IN_USE")
    assert refused_field(await mutate(gateway, "deleteRole", "name", name="user")) == "name"
    assert refused_field(await mutate(gateway, "updateRole", "role", name="admin", scopes=["USAGE_READ"])) == "name"
    assert refused_field(await mutate(gateway, "updateRole", "role", name="none")) == "name"
    await mutate(gateway, "updateUser", "user", id=ada, role="user")
    assert (await mutate(gateway, "deleteRole", "name", name="reader"))["name"] == "reader"
    names = [role["name"] for role in (await gateway.run("{ roles { name } }"))["roles"]]
    assert names == list(BUILT_IN_ROLES)


@pytest.mark.parametrize("name", ["admin", "Reader", "1a", "a b", "", "a\0b", "a" * 65])
async def test_a_name_that_no_role_can_have_is_refused(used_gateway: RunningGateway, name: str):
    refused = await mutate(used_gateway, "createRole", "role", name=name, scopes=["MODELS_READ"])
    assert refused_field(refused) == "name"


async def test_nobody_defines_or_changes_a_role_beyond_their_own(gateway: RunningGateway):
    await make_manager(gateway)
    await mutate(gateway, "createRole", "role", name="auditor", scopes=["AUDIT_READ"])
    await gateway.sign_in("helpdesk")
    for name in ("createRole", "updateRole"):
        role = "mine" if name == "createRole" else "helpdesk"
        refused = await mutate(gateway, name, "role", name=role, scopes=["AUDIT_READ", "USERS_READ"])
        assert "AUDIT_READ" in refused["message"]
    for name in ("updateRole", "deleteRole"):
        with pytest.raises(GraphQLErrors, match="may do more"):
            await mutate(gateway, name, "__typename", name="auditor")


async def test_a_role_is_not_deleted_while_it_is_given(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    await mutate(gateway, "createRole", "role", name="reader", scopes=["MODELS_READ"])

    async def give() -> None:
        await mutate(gateway, "updateUser", "user", id=ada, role="reader")

    async def delete() -> None:
        await mutate(gateway, "deleteRole", "name", name="reader")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give)
        tasks.start_soon(delete)
    there = {role["name"] for role in (await gateway.run("{ roles { name } }"))["roles"]}
    [user] = (await gateway.run('{ users(filter: {search: "ada"}) { nodes { role } } }'))["users"]["nodes"]
    assert user["role"] in there


def test_the_document_tells_the_built_in_roles():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    told = {name: (text, scopes) for name, text, scopes in rows if name in BUILT_IN_ROLES}
    assert told == {role.name: (role.description, _told(role.scopes)) for role in BUILT_IN_ROLES.values()}


def _told(scopes: frozenset[Scope]) -> str:
    return "all" if scopes == ALL_SCOPES else " ".join(f"`{scope.name}`" for scope in Scope if scope in scopes)
