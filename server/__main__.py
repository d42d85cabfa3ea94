"""`python -m server`, the same as the `ollagraph` script."""

import gc


def main() -> None:
    """Load the command line, and run it.

    What is loaded now is never garbage, and looking for some in it would take a sixth of the time.
    """
    gc.disable()
    from server.cli import main

    gc.freeze()
    gc.enable()
    main()


if __name__ == "__main__":
    main()
