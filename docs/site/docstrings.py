"""Docstrings as the site shows them: manuals filled in, examples as code."""

import re

import griffe

from lbcheck import optimizers

# Text of an example up to the next blank line.
_DOCTEST = re.compile(r"(?:^|(?<=\n))>>> .*?(?=\n\n|\Z)", re.DOTALL)
_EXAMPLE = re.compile(r"^Example:\n\n?(?=>>> )(.*?)(?=\n\n|\Z)", re.M | re.S)


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object before it is parsed."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = shown(_manual(obj) or obj.docstring.value)


def _manual(found):
    """What `help()` says of an optimizer, all arguments included."""
    rule = found.is_class and optimizers.BY_NAME.get(found.name.lower())
    if rule and found.path == f"{rule.__module__}.{rule.__name__}":
        return rule.__doc__
    return None


def shown(text):
    """A docstring in the words that mkdocstrings knows.

    >>> print(shown("Example:\\n\\n>>> 1\\n1\\n\\nSource: Nado et al. 2021."))
    Examples:
        >>> 1
        1
    <BLANKLINE>
    **Source**: Nado et al. 2021.
    """
    text = _EXAMPLE.sub(
        lambda m: "Examples:\n" + re.sub("^", "    ", m[1], flags=re.M), text
    )
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    text = re.sub(r"^Source: ", "**Source**: ", text, flags=re.M)
    return _DOCTEST.sub(lambda m: f"```pycon\n{m[0]}\n```", text)
