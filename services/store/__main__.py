"""`python -m services.store`: back up a store, restore, upgrade and roll it back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from consistent_gen.errors import CheckpointError, ConsistentGenError
from services.settings import Settings, load_settings

EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the commands. Returns 0, or what the mistake's kind says."""
    parser = argparse.ArgumentParser(prog="python -m services.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    backup = commands.add_parser("backup", help="write all of a store to a new folder, any time")
    backup.add_argument("folder", type=Path)
    restore = commands.add_parser("restore", help="put a backup into an empty store")
    restore.add_argument("folder", type=Path)
    upgrade = commands.add_parser("upgrade", help="back up, then bring the tables to this version")
    upgrade.add_argument("--backup", type=Path, metavar="DIR", help="(default: in the data folder)")
    rollback = commands.add_parser("rollback", help="put back what was there before the upgrade")
    rollback.add_argument("folder", type=Path, nargs="?", help="(default: the newest upgrade's)")
    for command in (backup, restore, upgrade, rollback):
        command.add_argument("--data", metavar="DIR", help="storage.data_dir")
        command.add_argument("--keys", metavar="FILE", help="auth.keys_file")
        command.add_argument("--config", metavar="FILE", help="settings, as for the server")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                             dest="overrides", help="one setting")  # fmt: skip
    options = parser.parse_args(arguments)
    os.umask(0o077)  # prompts and hashes of keys stand in backups
    try:
        return _run(options, _settings(options))
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return CheckpointError.exit_code if isinstance(error, CheckpointError) else error.exit_code


def _settings(options: argparse.Namespace) -> Settings:
    import json

    said = {"storage.data_dir": options.data, "auth.keys_file": options.keys}
    flags = [f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    return load_settings(options.config, os.environ, [*options.overrides, *flags])


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from services.store import backups

    if options.command == "backup":
        database = backups.opened(settings)
        try:
            manifest = backups.back_up(settings, database, options.folder)
        finally:
            database.close()
        print(f"{options.folder}: {manifest.summary}")
        return EXIT_FAILED if manifest.missing else 0
    if options.command == "restore":
        print(f"restored {backups.restore(settings, options.folder).summary}")
    elif options.command == "upgrade":
        made, folder = backups.upgrade(settings, options.backup)
        if folder is not None:
            print(f"backup before the upgrade: {folder}")
        print("upgraded: " + ", ".join(made) if made else "nothing to upgrade")
    else:
        manifest, folder, replaced = backups.roll_back(settings, options.folder)
        print(f"rolled back to {folder}: {manifest.summary}")
        print(f"what was there before is in {replaced}")
        print("start the version that it belongs to; this one would upgrade it again")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
