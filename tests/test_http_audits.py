"""The public audit suite of GraphQL over HTTP, npm's graphql-http."""

import json

from tests.support.gateways import RunningGateway
from tests.support.node import run_script


async def test_all_61_audits_of_graphql_over_http_pass(gateway: RunningGateway):
    results = json.loads(await run_script("audit.mjs", f"{gateway.url}/graphql"))
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == 61
