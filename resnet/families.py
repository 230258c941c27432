"""Schedules of studies of image models: by parts of a run of any length.

The flag --schedule=goyal takes steps; a study of fewer updates needs parts.
"""

import fractions
import math

from lbcheck.settings import schedule

_EPOCHS = 90


def goyal_90(total_steps, learning_rate, initial_learning_rate=0.0):
    """Goyal's recipe: the rate of 90 epochs, however many updates they take.

    Linear warm-up for 5 of the 90 epochs, then the rate, a tenth of it from
    epoch 30 on, a hundredth from 60, a thousandth from 80. An epoch that ends
    within an update ends with it.

    Args:
        total_steps: Updates of the 90 epochs, at least 90.
        learning_rate: Rate after the warm-up, at least 0.
        initial_learning_rate: Rate of the first update, at least 0.

    Returns:
        A schedule of `lbcheck.schedules`.

    Raises:
        ValueError: Too few updates.

    Example:
        >>> rate = goyal_90(7038, 6.4)
        >>> [round(float(rate(step)), 6) for step in (391, 2345, 2346, 6256)]
        [6.4, 6.4, 0.64, 0.0064]

    Source: Goyal et al. 2017, Sections 2.2 and 5.1; for "+" in Table 3 of You
    et al. 2019. As an arm's schedule: "resnet.families:goyal_90".
    """
    if total_steps < _EPOCHS:
        raise ValueError(
            f"goyal_90: `total_steps` must be at least {_EPOCHS}, an update "
            f"an epoch, received {total_steps}."
        )
    epoch = fractions.Fraction(total_steps, _EPOCHS)
    warmup, *boundaries = (math.ceil(epoch * end) for end in (5, 30, 60, 80))
    return schedule.goyal(
        total_steps,
        learning_rate,
        warmup,
        boundaries,
        initial_learning_rate=initial_learning_rate,
    )
