"""`python -m subsetscan`, and the entry point of the command `subsetscan`."""

import sys


def main() -> None:
    """Start the command line, or say what it needs."""
    try:
        from .commands.app import main as start
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        from ._extras import how_to_get

        sys.exit(f"subsetscan: the command line needs typer: {how_to_get('cli')}")
    except KeyboardInterrupt:
        print("subsetscan: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    start()


if __name__ == "__main__":
    main()
