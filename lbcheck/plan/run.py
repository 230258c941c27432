"""What a program says of a run that is to be planned."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from lbcheck.training import Options


class Run(NamedTuple):
    """A run, as the function `planned` of a program describes it.

    Attributes:
        title: Which run of the program it is, such as "phase 1".
        options: Of the training room: batch, microbatch, updates, types.
        build: (keras, optimizers) -> `lbcheck.training.Workload`, as for
            `lbcheck.training.run`. It is called with tf_keras, while a graph
            is traced, and reads no values of variables.
        example: (microbatch) -> (inputs, labels), nested dicts and tuples of
            (shape, name of a dtype): what `build`'s model is trained with.
        microbatch_flag: The flag of the program that sets its microbatch.
        assumed: What is not known here, and what is taken instead, as
            sentences.

    Example: `resnet.train.planned` gives one, `bert.pretrain.planned` one for
    each phase.
    """

    title: str
    options: Options
    build: Callable[[Any, Any], Any]
    example: Callable[[int], tuple[Any, Any]]
    microbatch_flag: str = "microbatch_size"
    assumed: tuple[str, ...] = ()
