"""What the command line does to print usage. Whoever has the machine may see all of it."""

from collections.abc import Sequence
from contextlib import aclosing

import click

from gateway.errors import InvalidInput
from gateway.identity import OPERATOR
from gateway.usage import Usage
from server.commands import opened
from server.settings import Settings, SettingsError
from server.usage_export import Form, lines, read_request


async def print_usage(
    settings: Settings,
    *,
    from_: str | None,
    to: str | None,
    time_zone: str,
    granularity: str,
    group_by: Sequence[str],
    percentiles: bool,
    form: str,
    as_json: bool,
) -> None:
    """Print a report. Raises SettingsError for what is no report."""
    given = {"timeZone": [time_zone], "granularity": [granularity], "groupBy": list(group_by), "allUsers": ["true"]}
    given["percentiles"] = ["true" if percentiles else "false"]
    given |= {name: [text] for name, text in (("from", from_), ("to", to)) if text is not None}
    try:
        request, form = read_request(given), "jsonl" if as_json else form
        async with opened(settings) as (database, _):
            async with aclosing(lines(Usage(database), OPERATOR, request, Form(form))) as portions:
                if as_json:
                    rows = b"".join([portion async for portion in portions]).removesuffix(b"\n")
                    click.echo(b"[" + rows.replace(b"\n", b",\n") + b"]")
                    return
                async for portion in portions:
                    click.echo(portion, nl=False)
    except (ValueError, InvalidInput) as error:
        raise SettingsError(str(error)) from error
