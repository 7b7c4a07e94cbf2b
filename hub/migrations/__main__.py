"""Bring the database whose URL comes on standard input to the newest schema. Run by hub.schema."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config


def main() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    # On standard input, since a command line is everyone's to read and the URL may hold a password.
    config.attributes["url"] = sys.stdin.read().strip()
    command.upgrade(config, "head")


main()
