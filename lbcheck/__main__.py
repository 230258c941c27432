"""`python -m lbcheck`, which is the command `lbcheck`."""

import sys

from lbcheck import cli

if __name__ == "__main__":
    # Python puts the working folder first, which may be a study's.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    cli.main()
