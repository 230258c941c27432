"""Flags, and what they resolve to: optimizer, schedule, training options.

A program defines them on its own `absl.flags.FlagValues`, so that two
programs in one process do not meet. A flag that only some choices use has no
default, and a value for it is refused where the choice does not use it.
Importing this package imports no framework.
"""
