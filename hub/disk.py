"""The disk floor: whether enough is free where SQLite keeps the database, before the disk is full.

On PostgreSQL there is nothing to look at: the disk is the server's, which says by itself when it is full.
"""

import shutil

from hub.config import Config


def disk_low(config: Config) -> str | None:
    """Why the disk counts as full, in a sentence that says what to do; None while it does not."""
    if config.sqlite_path is None:
        return None
    try:
        usage = shutil.disk_usage(config.sqlite_path.parent)
    except OSError:
        # A folder that is not there: the database says so itself.
        return None
    percent = 100 * usage.free / usage.total if usage.total else 100.0
    if usage.free >= config.disk.min_free and percent >= config.disk.min_free_percent:
        return None
    return (
        f"the disk of {config.sqlite_path} is nearly full: {mebibytes(usage.free)} ({percent:.1f} %) are free, and"
        f" disk.min_free is {mebibytes(config.disk.min_free)}, disk.min_free_percent {config.disk.min_free_percent:g};"
        " make room there, or lower these"
    )


def mebibytes(size: int) -> str:
    """A size as a person reads it."""
    return f"{size / 2**20:,.0f} MiB"
