"""What a gateway tells the person at the terminal when it listens."""

import shlex
import shutil
import sys
from pathlib import Path

from server.settings import Settings


def welcome(settings: Settings, url: str, password: str | None) -> str:
    """Give what a person at the terminal wants to know now. The password is in it at the first start only."""
    lines = ["", f"Ollagraph is ready at {url}"]
    if settings.serves_page:
        lines.append(f"  Page and GraphiQL  {url}/")
    lines.append(f"  GraphQL            {url}/graphql  (HTTP and WebSocket)")
    if password is not None:
        lines += [
            "",
            f"  Sign in as         {settings.admin_username}",
            f"  Password           {password}",
            "  This password is shown once. Keep it. To make more users:",
            f"    {_command()} users create NAME",
        ]
    else:
        lines.append("  Sign in with the user and password that you have.")
    return "\n".join([*lines, ""])


def _command() -> str:
    """Tell how to type our command in the folder where this process was started."""
    here = Path.cwd()
    python = Path(sys.executable)
    script = python.with_name("ollagraph")
    on_path = shutil.which("ollagraph")
    if on_path is not None and script.exists() and script.samefile(on_path):
        return "ollagraph"
    program = script if script.exists() else python
    typed = shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
    return typed if program is script else f"{typed} -m server"
