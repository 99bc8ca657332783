"""`python -m mlrs_cli`, and the console script `mlrs`."""

from mlrs_cli.commands.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
