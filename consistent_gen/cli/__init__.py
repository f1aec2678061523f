"""The command line: `consistent-gen`. Every mistake is one line on stderr and exit code 2.

Nothing here imports torch until a command that needs it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from consistent_gen.cli.parser import build_parser
from consistent_gen.errors import CheckpointError, ConsistentGenError

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 the answer is no (or the result could not be written), 2 something given was wrong,
    130 interrupted. Mistakes of ours keep their traceback.
    """
    try:
        options = build_parser().parse_args(argv)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except ConsistentGenError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("interrupted; nothing was changed", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output left; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _refuse(error: ConsistentGenError) -> int:
    line = " ".join(str(error).split())
    printable = "".join(c if c.isprintable() else "?" for c in line)
    print(printable, file=sys.stderr)
    # A model folder is named by the user, so a bad one is the user's to mend.
    return EXIT_INPUT if isinstance(error, CheckpointError) else error.exit_code


__all__ = ["main"]
