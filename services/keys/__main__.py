"""`python -m services.keys`: add a key to a file, revoke one, list them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from consistent_gen.errors import ConsistentGenError, InputError
from services.keys import KeyRing, Quota, create_key, retire_key, revoke_key, rotate_key


def main(arguments: list[str]) -> int:
    """add FILE ID [running=N] [queued=N] [storage_bytes=N] [safety=on|off] | rotate FILE ID |
    retire FILE ID | revoke FILE ID | list FILE
    """
    try:
        match arguments:
            case ["add", file, key_id, *limits]:
                print(create_key(Path(file), key_id, _quota(limits)))
            case ["rotate", file, key_id]:
                print(rotate_key(Path(file), key_id))
            case ["retire", file, key_id]:
                retire_key(Path(file), key_id)
            case ["revoke", file, key_id]:
                revoke_key(Path(file), key_id)
            case ["list", file]:
                print("\n".join(KeyRing(Path(file)).ids()))
            case _:
                raise InputError(f"expected: {' '.join((main.__doc__ or '').split())}")
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _quota(limits: list[str]) -> Quota:
    values: dict[str, Any] = {}
    for limit in limits:
        name, _, text = limit.partition("=")
        if name == "safety" and text in ("on", "off"):
            values[name] = text == "on"
            continue
        if name not in Quota.__dataclass_fields__ or not text.isascii() or not text.isdigit():
            raise InputError(
                f"{limit!r}; expected running=, queued= or storage_bytes= and a number, or "
                "safety=on or safety=off"
            )
        values[name] = int(text)
    return Quota(**values)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
