"""Exit codes, the same for every command and program."""

FINISHED = 0
"""All is done; nothing was found."""
FINDING = 1
"""A check found what it looks for."""
REFUSED = 2
"""Settings, files or data cannot be used; the message says why."""
DIVERGED = 3
"""The loss or a variable became non-finite, in a study in every trial."""
UNAVAILABLE = 69
"""Another worker or the storage is gone; start again with the same command."""
INTERRUPTED = 75
"""SIGTERM or Ctrl-C; what is saved is whole and the same command continues. One
of several workers cannot save alone: it stops at the next checkpoint."""
