"""What `demo-data` does."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import click

from db.clock import now
from gateway.demo import DatabaseInUse, Demo, DemoSize
from server.commands import opened
from server.first_start import ensure_admin
from server.settings import Settings, SettingsError

TOLD_EVERY = 100_000


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options, as they were typed."""

    users: int
    generations: int
    days: int
    seed: int
    until: datetime | None
    sum_up: bool

    def size(self) -> DemoSize:
        """Give how much is to be made up."""
        until = self.until or now().replace(hour=0, minute=0, second=0, microsecond=0)
        return DemoSize(self.seed, self.users, self.generations, self.days, until.replace(tzinfo=UTC))


async def demo_data(settings: Settings, options: DemoOptions) -> None:
    """Fill the database. Raises SettingsError in production, and where it is in use."""
    if settings.environment == "production":
        raise SettingsError("Sample data is not for production: OLLAGRAPH_ENVIRONMENT is production.")
    size = options.size()
    async with opened(settings) as (database, identity):
        password = await ensure_admin(
            settings, identity
        )  # whoever starts the gateway later finds users, and makes none
        click.echo(f"Making up {size.generations:,} generations in the database {database.place} ...")
        demo = Demo(database)
        try:
            await demo.fill(size, partial(_told, size.generations))
        except DatabaseInUse as error:
            raise SettingsError(str(error)) from error
        if options.sum_up:
            click.echo(f"Added {await demo.sum_up():,} rows to the sums of reports.")
        click.echo(f"Made {size.users:,} users, who cannot sign in, and {size.generations:,} generations.")
        click.echo(f"They are from {size.begin:%Y-%m-%d} to {size.until:%Y-%m-%d} (UTC); the seed is {size.seed}.")
        if password is not None:
            click.echo(f"Sign in as {settings.admin_username}. Password: {password}\nIt is shown this once.")


def _told(all_of_them: int, written: int) -> None:
    if written % TOLD_EVERY == 0:
        click.echo(f"{written:,} of {all_of_them:,}", err=True)
