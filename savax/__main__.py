"""``python -m savax``: the command line."""

from __future__ import annotations

import sys

from savax.saved_model.cli import main

if __name__ == "__main__":
    sys.exit(main())
