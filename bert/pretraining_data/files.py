"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from typing import BinaryIO


def write(path: str, part: str, fill: Callable[[BinaryIO], object]) -> None:
    """Makes a file with what `fill` writes, on the disk before it is seen.

    Args:
        path: The file; one that is there is replaced.
        part: What it is called until it is whole, on the same disk.
        fill: Writes the content.
    """
    with open(part, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
