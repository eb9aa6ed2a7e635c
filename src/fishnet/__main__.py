"""``python -m fishnet``, as torchrun starts it."""

import sys

from fishnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
