"""`python -m processors`."""

import sys

from processors.app import main

if __name__ == "__main__":
    sys.exit(main())
