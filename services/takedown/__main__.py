"""`python -m services.takedown`: take somebody's pictures off a server that is stopped.

    python -m services.takedown --data DIR --picture mia.jpg          # shows what would go
    python -m services.takedown --data DIR --picture mia.jpg --yes    # does it, and proves it

Everything goes that shows them or was made from what shows them: pictures, characters, stories with
their drawings, concepts of personas with crops and vectors, the studio's copies and exports.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistent_gen.errors import ConsistentGenError
from services.personas import OpenPersonas
from services.settings import load_settings
from services.takedown import Remains, Sought, Takedown, remove, survey
from services.web import open_state

EXIT_NOTHING, EXIT_LEFT = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when nothing is left, 1 when nothing was done, 2 for what was given wrongly, 3 when
    the scan found something.
    """
    parser = argparse.ArgumentParser(
        prog="python -m services.takedown",
        description=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    several: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("--picture", metavar="FILE", type=Path, help="a picture of them", **several)
    parser.add_argument("--artifact", metavar="ID", help="a picture of this server", **several)
    parser.add_argument("--character", metavar="ID", help="a character of a library", **several)
    parser.add_argument(
        "--subject",
        nargs=2,
        metavar=("PERSONA", "WORDS"),
        help="what a persona shall forget, such as per_... Bo",
        **several,
    )
    parser.add_argument("--data", metavar="DIR", help="the server's data folder")
    parser.add_argument("--config", metavar="FILE", help="the server's settings")
    parser.add_argument(
        "--yes", action="store_true", help="do it; without this it is only shown what would go"
    )
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def run(options: argparse.Namespace) -> int:
    """As `main`, with parsed options.

    Raises:
        InputError: nobody is named, it is not there, or the server runs.
        ServiceError: the stores cannot be used.
    """
    sought = Sought(
        pictures=tuple(options.picture),
        artifacts=tuple(options.artifact),
        characters=tuple(options.character),
        subjects=tuple((persona, words) for persona, words in options.subject),
    )
    said = [] if options.data is None else [f"storage.data_dir={options.data}"]
    state = open_state(load_settings(options.config, os.environ, said))
    folder = state.settings.storage.data_dir
    # Without what searches by meaning: that takes seconds to load, and words decide here.
    personas = OpenPersonas(folder / "personas", lambda: None)
    try:
        stores = state.database, state.artifacts, personas, folder
        found = survey(sought, *stores)
        print("\n".join(found.lines()) or "nothing here shows them")
        if found.empty:
            return EXIT_NOTHING
        if not options.yes:
            print("nothing was removed; add --yes to remove all of this for good")
            return EXIT_NOTHING
        return _told(found, remove(found, *stores))
    finally:
        personas.close()
        state.close()


def _told(found: Takedown, remains: Remains) -> int:
    print(
        f"removed {len(found.characters)} characters, {len(found.stories)} stories, "
        f"{len(found.artifacts)} pictures, memories of {len(found.memories)} personas and "
        f"{len(found.files)} files of the studio"
    )
    print(
        f"looked through {remains.rows} rows and {remains.files} files ({remains.size:,} bytes): "
        + ("nothing is left" if not remains.left else "STILL THERE:")
    )
    for line in remains.left:
        print(f"  {line}")
    print(
        "restart workers on other machines: anchors and features are in their memory. Backups and "
        "what was downloaded are not touched"
    )
    return EXIT_LEFT if remains.left else 0


if __name__ == "__main__":
    raise SystemExit(main())
