"""`load_initial`: a model starts from the weights of a checkpoint."""

import os
from typing import NamedTuple


class Loaded(NamedTuple):
    """What `load_initial` did; `str()` of it is a line to print.

    Attributes:
        path: The checkpoint.
        format: "google", "garden", "huggingface" or "record".
        settings: What is known of its configuration, with keys of
            `bert.models.config`.
        loaded: Parts of the model that the checkpoint gave.
        fresh: Parts that it lacks; they are as they were.
        unused: Parts of the checkpoint that the model lacks.
    """

    path: str
    format: str
    settings: dict
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def load_initial(model, path: str | os.PathLike) -> Loaded:
    """Sets a model's encoder and heads to the weights of a checkpoint.

    The checkpoint must have the whole encoder; a head that it lacks stays
    as it is. Nothing is set where anything does not fit.

    Args:
        model: `bert.models.encoder` or `pretrainer`, a BertSpanLabeler of
            Model Garden on such an encoder, or any model with
            `checkpoint_items["encoder"]`; its variables made.
        path: As `bert.checkpoints.read` takes it.

    Returns:
        What was loaded and what not.

    Raises:
        ValueError: The checkpoint cannot be read, or does not fit: the
            message names file, variable and both shapes or settings.

    Example: `print(load_initial(models.pretrainer(settings), "phase_1"))`
    """
    raise NotImplementedError(model, path)
