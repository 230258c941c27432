r"""The gradient-noise scale: a batch size, from the gradients of microbatches.

With G the gradient of the loss and \(\Sigma\) the covariance of the gradient
of one example, a batch of

$$ B_{simple} = \mathrm{tr}(\Sigma) / |G|^2 $$

examples has as much noise as signal. A batch far below it is mostly noise, so
twice the examples halve the steps; far above it more examples save nothing.
"""

import importlib
import inspect
import math
import numbers
import operator
import reprlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.support import checks
from lbcheck.support import kerases
from lbcheck.trials import user_model

CONFIDENCE = 0.95
_LEAST = 2


class NoiseScale(NamedTuple):
    """The noise scale of a few steps together.

    Attributes:
        value: B_simple, in examples; infinite where no gradient is seen.
        low, high: Its interval, 95 %, around `value`; `high` is infinite where
            the noise of the microbatches hides the gradient.
        squared_norm: Estimate of |G|^2, the mean of the steps.
        trace: Estimate of tr(Sigma), of one example, likewise.
        steps: How many steps there were.
        microbatches: How many of each.
        microbatch_size: Examples of each.
    """

    value: float
    low: float
    high: float
    squared_norm: float
    trace: float
    steps: int
    microbatches: int
    microbatch_size: int


def estimate(grams: Sequence[Any], microbatch_size: int) -> NoiseScale:
    r"""The noise scale from inner products of microbatches' gradients.

    With K_ij = <g_i, g_j> of the k microbatches of b examples of a step, the
    mean D of the diagonal and the mean O of the rest,

    $$ |G|^2 \approx O  \qquad  \mathrm{tr}(\Sigma) \approx b (D - O) $$

    are unbiased; they are the estimators from the norms of small batches b
    and large ones k b. Steps are averaged before the ratio is taken. The
    interval holds every B for which tr(Sigma) - B |G|^2 is not told from 0
    (Fieller), with the covariance of both by the jackknife over microbatches.
    Of normal gradients with 10 or 100 elements it holds the ratio in 94 to
    99 % of all draws, from 3 microbatches on; with one element and one step
    in 82 % at worst, where there is little noise.

    Args:
        grams: For each step the symmetric matrix K, of shape (k, k), k at
            least 2.
        microbatch_size: b, at least 1.

    Returns:
        A `NoiseScale`.

    Raises:
        ValueError: There are no steps, a matrix is not square, not finite or
            of fewer than 2 microbatches, or b is no such number.

    Example:
        >>> gradients = np.array([[3.0, 1.0], [3.0, -1.0], [3.0, 1.0],
        ...     [3.0, -1.0]])
        >>> found = estimate([gradients @ gradients.T], microbatch_size=8)
        >>> round(found.squared_norm, 3), round(found.trace, 3)
        (8.667, 10.667)
        >>> round(found.value, 3)
        1.231

    Source: McCandlish et al. 2018, Appendix A.1; Fieller 1954;
        Efron and Stein 1981.
    """
    _check_count("microbatch_size", microbatch_size)
    matrices = [np.asarray(gram, float) for gram in grams]
    shapes = [m.shape for m in matrices]
    if not shapes or any(s < (_LEAST,) or s != s[:1] * 2 for s in shapes):
        raise ValueError(
            "a noise scale needs at least one step, each with a square matrix "
            f"of at least {_LEAST} microbatches, received "
            f"{shapes or 'no steps'}."
        )
    for step, matrix in enumerate(matrices):
        if not np.isfinite(matrix).all():
            raise ValueError(
                "a noise scale needs finite gradients, received others at "
                f"measured step {step}: the model has diverged there."
            )
    pairs = np.array([_moments(m, microbatch_size) for m in matrices])
    squared, trace = pairs.mean(axis=0)
    trace = max(0.0, trace)  # below 0 by rounding alone
    covariance, freedom = _jackknife(matrices, microbatch_size)
    low, high = _fieller(trace, squared, covariance, freedom)
    return NoiseScale(
        value=float(trace / squared) if squared > 0 else math.inf,
        low=low,
        high=high,
        squared_norm=float(squared),
        trace=float(trace),
        steps=len(matrices),
        microbatches=len(matrices[0]),
        microbatch_size=microbatch_size,
    )


def measure(
    model: Any, batches: Iterable[tuple], microbatch_size: int, every: int = 1
) -> NoiseScale:
    """The noise scale of a model along a few steps of its training.

    Before each step the gradients of the batch's microbatches are taken, as
    in training, regularization included; then the step is made. The memory
    is that of one gradient per microbatch.

    Args:
        model: A compiled model of either Keras on TensorFlow, which trains by
            Keras's own train_step: only then is its loss known to be that of
            compute_loss.
        batches: (x, y) or (x, y, sample_weight) of equal arrays, one a step;
            examples beyond whole microbatches take part in the step alone, and
            so does a batch of fewer microbatches than others, as the last of
            a data set may be.
        microbatch_size: Examples of a microbatch; at least 2 of them fit
            into a batch.
        every: Steps from one that is measured to the next, the first
            included.

    Returns:
        A `NoiseScale`.

    Raises:
        ValueError: As of `estimate`; a model, a batch or a number that is
            none of these.

    Example: `measure(model, [(x, y)] * 5, microbatch_size=32).value`
    """
    _check_count("every", every)
    grams = []
    for step, batch in enumerate(batches):
        if step % every == 0:
            grams.append(gram(model, batch, microbatch_size))
        model.train_on_batch(*batch)
    most = max(map(len, grams), default=0)
    return estimate([g for g in grams if len(g) == most], microbatch_size)


def gram(model: Any, batch: tuple, microbatch_size: int) -> np.ndarray:
    """Inner products of the gradients of a batch's microbatches.

    The model is left as it was, moving averages included.

    Args:
        model: As of `measure`.
        batch: Likewise.
        microbatch_size: Likewise.

    Returns:
        Array of shape (k, k), float64, of k whole microbatches.

    Raises:
        ValueError: As of `measure`.
    """
    _check_count("microbatch_size", microbatch_size)
    check_model(model)
    tensorflow = importlib.import_module("tensorflow")
    batch, examples = _tensors(tensorflow, batch)
    # Moving statistics and random states: training goes on as if not looked at.
    states = [v for v in user_model.decided(model) if not v.trainable]
    kept = [state.numpy() for state in states]
    rows = []
    whole = examples - examples % microbatch_size
    for first in range(0, whole, microbatch_size):
        part = operator.itemgetter(slice(first, first + microbatch_size))
        micro = _of_each(tensorflow, part, batch)
        rows.append(_gradient(tensorflow, model, micro))
    for state, value in zip(states, kept):
        state.assign(value)
    flat = np.stack(rows) if rows else np.zeros((0, 1))
    return flat @ flat.T


def check_model(model: Any) -> None:
    """Refuses a model whose training gradient is not to be had.

    Raises:
        ValueError: It is not on TensorFlow, or has its own train_step.
    """
    backend = user_model.backend(model)
    if backend != "tensorflow":
        raise ValueError(
            "the noise scale is measured on TensorFlow, received a model on "
            f"{backend}."
        )
    own = user_model.keras_of(model).Model.train_step
    if getattr(model.train_step, "__func__", None) is not own:
        raise ValueError(
            f"{type(model).__name__} has its own train_step, of whose loss the "
            "noise scale knows nothing; override compute_loss instead."
        )
    if not model.trainable_variables:
        raise ValueError(
            "the noise scale is of gradients, received a model in which "
            "nothing can be trained."
        )


def _check_count(name, value):
    if not checks.is_number(value, numbers.Integral) or value < 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1, received "
            f"{value!r}."
        )


def _tensors(tensorflow, batch):
    """A batch as tensors, and how many examples it has."""
    if not isinstance(batch, (tuple, list)) or not 1 <= len(batch) <= 3:
        raise ValueError(
            "a batch must be (x, y) or (x, y, sample_weight), received "
            f"{reprlib.repr(batch)}."
        )
    batch = _of_each(tensorflow, tensorflow.convert_to_tensor, tuple(batch))
    arrays = [a for a in tensorflow.nest.flatten(batch) if a is not None]
    lengths = {tuple(array.shape[:1]) for array in arrays}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            "the arrays of a batch must have as many examples each, received "
            f"shapes {sorted({tuple(array.shape) for array in arrays})}."
        )
    return batch, len(arrays[0])


def _of_each(tensorflow, function, batch):
    """A function of each array; what is None, such as a weight, stays so."""
    return tensorflow.nest.map_structure(
        lambda array: None if array is None else function(array), batch
    )


def _gradient(tensorflow, model, batch):
    """One vector of all trainable variables' gradients."""
    x, y, weight = (*batch, None, None)[:3]
    # As Keras calls it: by place, and `training` only where it is taken.
    taken = inspect.signature(model.compute_loss).parameters
    mode = {"training": True} if "training" in taken else {}
    with tensorflow.GradientTape(persistent=True) as tape:
        predicted = model(x, training=True)
        loss = model.compute_loss(x, y, predicted, weight, **mode)
    variables = model.trainable_variables
    if kerases.of(model) == "keras3":
        variables = [variable.value for variable in variables]
    scale = _loss_scale(tensorflow, model.optimizer)
    while True:
        gradients = tape.gradient(
            loss,
            variables,
            output_gradients=tensorflow.cast(scale, loss.dtype),
            unconnected_gradients=tensorflow.UnconnectedGradients.ZERO,
        )
        flat = np.concatenate(
            [
                np.ravel(tensorflow.convert_to_tensor(g).numpy()).astype(float)
                for g in gradients
            ]
        )
        # Where the scale overflows, training takes the next lower one.
        if scale <= 1 or np.isfinite(flat).all():
            return flat / scale
        scale /= 2


def _loss_scale(tensorflow, optimizer) -> float:
    """What the optimizer scales the loss by: gradients of float16 underflow."""
    for name in ("scale_loss", "get_scaled_loss"):  # of Keras 3, of tf_keras
        scaled = getattr(optimizer, name, None)
        if scaled:
            return float(scaled(tensorflow.constant(1.0)))
    return 1.0


def _moments(matrix, size):
    """(estimate of |G|^2, of tr(Sigma)) of one step."""
    count = len(matrix)
    diagonal = np.trace(matrix) / count
    rest = (matrix.sum() - np.trace(matrix)) / (count * (count - 1))
    return rest, size * (diagonal - rest)


def _jackknife(matrices, size):
    """Covariance of the two means over steps, and its degrees of freedom."""
    covariance, freedom = np.zeros((2, 2)), 0
    for matrix in matrices:
        count = len(matrix)
        if count <= _LEAST:  # one left has no pair
            return np.full((2, 2), math.inf), 1
        left = np.array(
            [
                _moments(np.delete(np.delete(matrix, i, 0), i, 1), size)
                for i in range(count)
            ]
        )
        spread = left - left.mean(axis=0)
        covariance += (count - 1) / count * spread.T @ spread
        freedom += count - 1
    return covariance / len(matrices) ** 2, freedom


def _fieller(trace, squared, covariance, freedom):
    """Ends of the ratios trace / squared that the estimates do not exclude."""
    from scipy import stats

    if not np.isfinite(covariance).all():
        return 0.0, math.inf
    t = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) ** 2
    # (trace - B squared)^2 <= t var(trace - B squared), a parabola in B.
    a = squared**2 - t * covariance[0, 0]
    b = -2 * (trace * squared - t * covariance[0, 1])
    c = trace**2 - t * covariance[1, 1]
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))  # below 0 by rounding alone
    if a > 0 > squared:  # which |G|^2 cannot be: nothing is told
        return 0.0, math.inf
    low, high = 0.0, math.inf
    if c > 0:  # tr(Sigma) is told from 0
        low = 2 * c / (root - b) if root > b else math.inf
    if a > 0:  # |G|^2 is
        high = (root - b) / (2 * a)
    return float(low), float(high)
