"""``python -m odqa`` is the command ``odqa``."""

import sys

from odqa.cli import main

if __name__ == "__main__":
    sys.exit(main())
