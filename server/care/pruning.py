"""`ollagraph prune`: removes from the database what is too old, and tells how much that was."""

from collections.abc import Sequence
from datetime import timedelta

import click
import orjson

from gateway.care import Ages, Kind, Pruning
from server.commands import opened
from server.settings import Settings


async def prune_database(
    settings: Settings, kinds: Sequence[str], older_than: int | None, *, dry_run: bool, as_json: bool
) -> None:
    """Remove it, or count it, and print a line for each kind."""
    ages = Ages(
        idempotency_time=settings.idempotency_time,
        login_lock_time=settings.login_lock_time,
        audit_retention=settings.audit_retention,
        usage_retention=settings.usage_retention,
    )
    async with opened(settings) as (database, _):
        pruning = Pruning(database, ages, None if older_than is None else timedelta(days=older_than))
        wanted = [Kind(kind) for kind in kinds]
        rows: dict[str, int] = {}
        async for pruned in pruning.count(wanted) if dry_run else pruning.remove(wanted):
            rows[pruned.kind.value] = pruned.rows
            if not as_json:
                done = "would be removed" if dry_run else "removed"
                click.echo(f"{pruned.kind.value}: {pruned.rows:,} {done}")
    if as_json:
        click.echo(orjson.dumps({"removed": not dry_run, "rows": rows}).decode())
