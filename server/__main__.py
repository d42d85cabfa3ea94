"""`python -m server`, the same as the `ollagraph` script."""

from server.cli import main

main()
