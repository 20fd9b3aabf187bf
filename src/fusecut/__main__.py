"""``python -m fusecut``."""

import sys

from fusecut.cli import main

if __name__ == "__main__":
    sys.exit(main())
