"""Users as administrators see and change them; and how the tests of accounts send mutations."""

import anyio
import pytest
from sqlalchemy import select
from websockets.exceptions import ConnectionClosed

from auth.scopes import Scope
from db.tables import User
from schema.node import global_id
from tests.support.databases import on_postgresql, on_sqlite
from tests.support.gateways import ADMIN, PASSWORD, GraphQLErrors, Json, RunningGateway, Socket, refused_field

SELECTED = {
    "user": "id username role active mustChangePassword displayName email timeZone",
    "group": "id name models",
    "role": "name scopes",
    "link": "token purpose",
}


async def mutate(gateway: RunningGateway, name: str, gives: str, /, **input: object) -> Json:
    """Run a mutation and give its result; `gives` are the fields of its success, as `user password`."""
    kind = name[0].upper() + name[1:]
    success = " ".join(f"{it} {{ {SELECTED[it]} }}" if it in SELECTED else it for it in gives.split())
    data = await gateway.run(
        f"mutation($input: {kind}Input!) {{ {name}(input: $input) {{ __typename ... on {kind}Success {{ {success} }} "
        "... on UserError { message code } ... on InvalidInput { issues { path message } } } }",
        {"input": input},
    )
    return data[name]


async def make(gateway: RunningGateway, username: str, *, role: str = "developer") -> str:
    """Make a user with the administrator's password, and give their id in the API."""
    return global_id("User", (await gateway.make_user(username, role=role)).id)


async def make_manager(gateway: RunningGateway, username: str = "helpdesk") -> str:
    """Make a user who may manage users, and is no administrator. The caller is one."""
    scopes = [Scope.USERS_READ, Scope.USERS_WRITE, Scope.PROFILE_READ, Scope.PROFILE_WRITE, Scope.MODELS_READ]
    made = await mutate(gateway, "createRole", "role", name="helpdesk", scopes=[scope.name for scope in scopes])
    assert made["__typename"] == "CreateRoleSuccess"
    return await make(gateway, username, role="helpdesk")


async def can_sign_in(gateway: RunningGateway, username: str, password: str = PASSWORD) -> bool:
    """Try to sign in, with what that gives as the token from now on."""
    gateway.token = None
    data = await gateway.run(
        "mutation($input: LoginInput!) { login(input: $input) { ... on LoginSuccess { accessToken } } }",
        {"input": {"username": username, "password": password}},
    )
    gateway.token = data["login"].get("accessToken")
    return gateway.token is not None


USERS = """
query($first: Int, $after: String, $filter: UserFilter) { users(first: $first, after: $after, filter: $filter) {
  nodes { username } pageInfo { hasNextPage endCursor }
} }
"""


@pytest.fixture
def gateway(emptied_gateway: RunningGateway) -> RunningGateway:
    return emptied_gateway


async def listed(gateway: RunningGateway, **filter: object) -> list[str]:
    data = await gateway.run(USERS, {"filter": filter})
    return [user["username"] for user in data["users"]["nodes"]]


async def my_id(gateway: RunningGateway) -> str:
    return (await gateway.run("{ me { id } }"))["me"]["id"]


async def forbidden(gateway: RunningGateway, name: str, gives: str, **input: object) -> str:
    with pytest.raises(GraphQLErrors) as refused:
        await mutate(gateway, name, gives, **input)
    assert refused.value.code == "FORBIDDEN"
    return str(refused.value)


async def test_users_are_paged_searched_and_filtered(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    for username in ("ada", "bob", "c_d", "cyd"):
        await make(gateway, username, role="user" if username == "bob" else "developer")
    bob = await mutate(gateway, "updateUser", "user", id=(await find(gateway, "bob")), displayName="Åsa Öberg")
    assert bob["user"]["displayName"] == "Åsa Öberg"
    await mutate(gateway, "updateUser", "user", id=(await find(gateway, "ada")), email="Ada@Example.org")
    first = (await gateway.run(USERS, {"first": 2}))["users"]
    after = first["pageInfo"]["endCursor"]
    rest = (await gateway.run(USERS, {"first": 10, "after": after}))["users"]
    names = [user["username"] for page in (first, rest) for user in page["nodes"]]
    assert sorted(names) == ["ada", ADMIN, "bob", "c_d", "cyd"]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    assert await listed(gateway, search="åsa") == ["bob"]
    assert await listed(gateway, search="example.ORG") == ["ada"]
    assert await listed(gateway, search="c_d") == ["c_d"]
    assert await listed(gateway, search="%") == []
    assert await listed(gateway, role="user") == ["bob"]
    await mutate(gateway, "deactivateUser", "user", id=(await find(gateway, "cyd")))
    assert await listed(gateway, active=False) == ["cyd"]
    assert await listed(gateway, kind="SERVICE") == []


async def find(gateway: RunningGateway, username: str) -> str:
    async with gateway.database.reading() as session:
        return global_id("User", (await session.scalars(select(User.id).where(User.username == username))).one())


async def test_a_user_is_made_with_a_password_that_is_shown_once_and_must_be_changed(gateway: RunningGateway):
    made = await mutate(gateway, "createUser", "user password", username=" Ada ", email="ada@example.org")
    assert (made["user"]["username"], made["user"]["role"]) == ("ada", "user")
    assert await can_sign_in(gateway, "ada", made["password"])
    with pytest.raises(GraphQLErrors, match="changePassword"):
        await gateway.run("{ models { name } }")
    changed = await mutate(
        gateway, "changePassword", "user", currentPassword=made["password"], newPassword="my own long phrase"
    )
    assert changed["user"]["mustChangePassword"] is False
    assert (await gateway.run("{ models { name } }"))["models"] is not None


async def test_all_that_is_wrong_with_a_new_user_is_told_at_once(gateway: RunningGateway):
    wrong = {"username": "deleted-1", "password": "short", "role": "none", "email": "no", "displayName": "a \0 b"}
    refused = await mutate(gateway, "createUser", "user", **wrong)
    assert {issue["path"][0] for issue in refused["issues"]} == wrong.keys()
    unknown = await mutate(gateway, "createUser", "user", username="ada", groupIds=[global_id("Group", "0" * 32)])
    assert refused_field(unknown) == "groupIds[0]"


@pytest.mark.parametrize("mutation", ["createUser", "inviteUser", "createServiceAccount"])
async def test_a_user_is_made_with_their_time_zone(gateway: RunningGateway, mutation: str):
    zones: Json = {" Asia/Kathmandu ": "Asia/Kathmandu", "": None, None: None}
    for number, given in enumerate(zones):
        made = await mutate(gateway, mutation, "user", username=f"ada{number}", timeZone=given)
        assert made["user"]["timeZone"] == zones[given]
    for wrong in ("Mars/Olympus", "Europe", "../Europe/Berlin", "a\0b", "é", "x" * 1000):
        assert refused_field(await mutate(gateway, mutation, "user", username="bob", timeZone=wrong)) == "timeZone"


async def test_of_users_made_at_once_with_one_name_there_is_one(emptied_gateway_on_each_database: RunningGateway):
    gateway = emptied_gateway_on_each_database
    made: list[str] = []

    async def one() -> None:
        made.append((await mutate(gateway, "createUser", "user", username="ada"))["__typename"])

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
    assert sorted(made) == ["CreateUserSuccess", *["InvalidInput"] * 3]


async def test_nobody_grants_what_they_do_not_have_or_touches_who_may_do_more(gateway: RunningGateway):
    admin, _ = await my_id(gateway), await make_manager(gateway)
    ada = await make(gateway, "ada", role="read-only")
    await gateway.sign_in("helpdesk")
    refused = await mutate(gateway, "createUser", "user", username="eve", role="admin")
    assert refused_field(refused) == "role"
    assert "USERS_READ" not in refused["issues"][0]["message"]
    for name in ("deactivateUser", "deleteUser"):
        assert "may do more" in await forbidden(gateway, name, "user", id=admin)
    assert "may do more" in await forbidden(gateway, "updateUser", "user", id=admin, email="x@example.org")
    assert "may do more" in await forbidden(gateway, "createPasswordReset", "user", userId=admin)
    assert "may do more" in await forbidden(gateway, "updateUser", "user", id=ada, role="helpdesk")
    mine = await mutate(gateway, "createUser", "user", username="bob", role="helpdesk")
    assert mine["user"]["role"] == "helpdesk"


async def test_without_the_scope_another_user_is_not_found_and_nothing_can_be_changed(gateway: RunningGateway):
    admin = await my_id(gateway)
    key = (await gateway.make_key(scopes=["USERS_WRITE", "PROFILE_READ"]))["secret"]
    ada = await make(gateway, "ada", role="read-only")
    gateway.token = key
    assert (await mutate(gateway, "deactivateUser", "user", id=ada))["__typename"] == "NotFound"
    await gateway.sign_in("ada")
    query = "query($id: ID!) { user(id: $id) { username } node(id: $id) { id } }"
    assert await gateway.run(query, {"id": admin}) == {"user": None, "node": None}
    assert (await gateway.run(query, {"id": ada}))["user"] == {"username": "ada"}
    await forbidden(gateway, "updateUser", "user", id=ada, role="admin")
    with pytest.raises(GraphQLErrors, match="USERS_READ"):
        await gateway.run("{ users { nodes { id } } }")


@pytest.mark.parametrize(
    ("name", "input"), [("deactivateUser", {}), ("deleteUser", {}), ("updateUser", {"role": "developer"})]
)
@on_sqlite
async def test_the_last_administrator_stays_one(gateway_on_each_database: RunningGateway, name: str, input: Json):
    gateway = gateway_on_each_database  # of its own: in the end its administrator is none any more
    admin = await my_id(gateway)
    await mutate(gateway, "inviteUser", "user", username="invited", role="admin")  # who cannot sign in yet
    refused = await mutate(gateway, name, "user", id=admin, **input)
    assert (refused["__typename"], refused["code"]) == ("Conflict", "LAST_ADMINISTRATOR")
    await make(gateway, "second", role="admin")
    assert (await mutate(gateway, name, "user", id=admin, **input))["__typename"].endswith("Success")


@pytest.mark.parametrize(
    ("name", "input"), [("deactivateUser", {}), ("deleteUser", {}), ("updateUser", {"role": "developer"})]
)
@on_postgresql
async def test_of_administrators_who_end_each_other_at_once_one_is_left(
    gateway_on_each_database: RunningGateway, name: str, input: Json
):
    gateway = gateway_on_each_database  # of its own: in the end its administrator may be none any more
    ids = {ADMIN: await my_id(gateway), "second": await make(gateway, "second", role="admin")}
    tokens = {username: await gateway.sign_in(username) for username in ids}
    kind = name[0].upper() + name[1:]
    query = f"mutation($input: {kind}Input!) {{ {name}(input: $input) {{ __typename }} }}"

    async def end(by: str, of: str) -> None:
        body = {"query": query, "variables": {"input": {"id": ids[of], **input}}}
        await gateway.client.post("/graphql", json=body, headers={"Authorization": f"Bearer {tokens[by]}"})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, ADMIN, "second")
        tasks.start_soon(end, "second", ADMIN)
    async with gateway.database.reading() as session:
        left = select(User).where(User.role == "admin", User.disabled_at.is_(None))
        assert len((await session.scalars(left)).all()) == 1


async def test_who_is_deactivated_can_do_nothing_until_they_are_reactivated(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    token = await gateway.sign_in("ada")
    key = (await gateway.make_key())["secret"]
    await gateway.sign_in()
    off = await mutate(gateway, "deactivateUser", "user", id=ada)
    assert off["user"]["active"] is False
    for credentials in (token, key):
        gateway.token = credentials
        with pytest.raises(GraphQLErrors) as refused:
            await gateway.run("{ models { name } }")
        assert refused.value.code == "UNAUTHENTICATED"
    assert not await can_sign_in(gateway, "ada")
    await gateway.sign_in()
    assert (await mutate(gateway, "reactivateUser", "user", id=ada))["user"]["active"] is True
    gateway.token = key
    assert (await gateway.run("{ models { name } }"))["models"]


async def test_a_user_changes_their_own_profile_and_nothing_else(gateway: RunningGateway):
    await make(gateway, "ada")
    await gateway.sign_in("ada")
    changed = await mutate(gateway, "updateProfile", "user", displayName=" Ada ", email="ada@example.org")
    assert (changed["user"]["displayName"], changed["user"]["email"]) == ("Ada", "ada@example.org")
    cleared = await mutate(gateway, "updateProfile", "user", email=None)
    assert (cleared["user"]["displayName"], cleared["user"]["email"]) == ("Ada", None)
    for input in ('role: "admin"', "mustChangePassword: false", 'username: "admin"'):
        response = (await gateway.post(f"mutation {{ updateProfile(input: {{ {input} }}) {{ __typename }} }}")).json()
        assert response["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def to_the_end(socket: Socket) -> None:
    """Receive until the connection is closed, which raises ConnectionClosed."""
    while True:
        await socket.receive()


async def test_the_socket_of_who_is_deactivated_is_closed(gateway: RunningGateway):
    ada = await make(gateway, "ada")
    admin, token = gateway.token, await gateway.sign_in("ada")
    async with gateway.connect(init={"Authorization": f"Bearer {token}"}) as socket:
        await socket.subscribe(
            'subscription { generate(input: {model: "fake:hold-3", prompt: {text: "x"}}) { __typename } }'
        )
        await socket.receive()
        gateway.token = admin
        await mutate(gateway, "deactivateUser", "user", id=ada)
        with anyio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
            await to_the_end(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403
