"""The commands that administer an installation, grouped by noun, and the names that they had before."""

from copy import copy

import click

from server.administration.audit import audit, export_audit
from server.administration.fake import fake_model_server
from server.administration.key_cli import KEY_COMMANDS
from server.administration.keys import keys, sessions
from server.administration.servers import backends, models
from server.administration.users import (
    create_user,
    deactivate_user,
    delete_user,
    list_users,
    reactivate_user,
    reset_password,
    set_role,
    unlock,
    users,
)

NOUNS = (users, keys, sessions, backends, models, audit)


def _hidden(command: click.Command) -> click.Command:
    """Give a command again, for those who know it by its first name; no list shows it."""
    alias = copy(command)
    alias.hidden = True
    return alias


ALIASES = tuple(
    _hidden(it)
    for it in (
        *(create_user, list_users, set_role, reset_password, deactivate_user, reactivate_user, delete_user, unlock),
        *(export_audit, *KEY_COMMANDS),
    )
)

__all__ = ["ALIASES", "NOUNS", "fake_model_server"]
