"""``python -m smartops`` is the ``smartops`` command."""

import sys

from smartops.cli import main

if __name__ == "__main__":
    sys.exit(main())
