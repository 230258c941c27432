"""Finds what a user names as `module:attribute`."""

import importlib
import operator
import os
import sys

from absl import app


def load(name: str):
    """The object that `name` means, modules of the working folder included.

    >>> load("math:sqrt")(9.0)
    3.0

    Raises:
        app.UsageError: If `name` has no colon, or the module or the
            attribute is not there. Errors inside the module are its own.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise app.UsageError(
            f"{name!r} must be module:function, for instance "
            "my_module:build_model."
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise app.UsageError(
            f"{name!r}: no module {error.name!r} in {here} or in the installed "
            "packages."
        ) from error
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError:
        raise app.UsageError(
            f"{name!r}: module {module_name!r} has no {attribute!r}."
        ) from None
