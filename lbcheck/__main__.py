"""`python -m lbcheck`, which is the command `lbcheck`."""

import sys

if __name__ == "__main__":
    # Python puts the working folder first, which may be a study's, with files
    # that are called as modules are.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    from lbcheck import cli

    cli.main()
