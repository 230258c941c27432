"""TFRecord files of a data set, by their usual names."""

import os
import re

from resnet.data.missing import Missing

_NAME = re.compile(r".*-(\d{5})-of-(\d{5})")


def find(folder, split):
    """The files `split-00000-of-00008` and so on of a folder, in order.

    Args:
        folder: Local folder, or one that tf.io.gfile reads.
        split: Beginning of their names.

    Returns:
        List of paths.

    Raises:
        ValueError: The folder or one of its files is missing.
    """
    import tensorflow as tf

    expected = f"TFRecord files named {split}-00000-of-00008 and so on"
    if not tf.io.gfile.isdir(folder):
        raise Missing(f"{folder} is no folder; expected {expected} there.")
    paths = sorted(tf.io.gfile.glob(os.path.join(folder, f"{split}-*-of-*")))
    if not paths:
        raise Missing(f"{folder} has no {split} files; expected {expected}.")
    matches = [_NAME.fullmatch(path) for path in paths]
    numbers = [match and tuple(map(int, match.groups())) for match in matches]
    wanted = [(number, len(paths)) for number in range(len(paths))]
    if numbers != wanted:
        raise ValueError(
            f"{folder}: expected each of {split}-00000-of-{len(paths):05} to "
            f"{split}-{len(paths) - 1:05}-of-{len(paths):05} once, found "
            f"{', '.join(os.path.basename(path) for path in paths[:8])}"
            f"{', ...' if len(paths) > 8 else '.'}"
        )
    return paths
