"""The command line: thin commands that parse, call a room and print."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from .app import app

    app()
