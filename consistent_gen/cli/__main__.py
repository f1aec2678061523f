"""`python -m consistent_gen.cli` is `consistent-gen`."""

from __future__ import annotations

import sys

from consistent_gen.cli import main

if __name__ == "__main__":
    sys.exit(main())
