"""The two moments that Adam and LAMB keep, and their bias correction."""

import math
import numbers


def one_minus_power(xp, beta, count):
    """1 - beta**count, accurate in float32 too, where 1 - 0.999 is not."""
    if not isinstance(beta, numbers.Number):
        return -xp.expm1(count * xp.log(beta))
    return -xp.expm1(count * (math.log(beta) if beta else -math.inf))


def decayed_average(beta, average, value):
    """beta * average + (1 - beta) * value."""
    return beta * average + (1.0 - beta) * value
