"""Transplant: LAMB's layer-wise rates, recorded, as AdamW's schedule per layer.

LAMB's direction is AdamW's, decay included, times the trust ratio. So AdamW
with a learning rate of its own for every variable and update is LAMB, and
what LAMB does can be tried piece by piece: its ratios from another seed, their
medians, or one layer's alone.
"""

import importlib
import pathlib
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.optimizers import base
from lbcheck.optimizers import keras_arguments
from lbcheck.optimizers.lamb import LAMBRule
from lbcheck.schedules import arrays
from lbcheck.support import files
from lbcheck.support import npz

_RATES = "learning_rate"
_NUMBERS = ("beta_1", "beta_2", "epsilon", "weight_decay", "bias_correction")
_AS_ADAMW = {
    "decay_placement": "inside",
    "nesterov": None,
    "constant_norm": False,
}
"""Switches of LAMB with which its direction is AdamW's."""


class Recording(NamedTuple):
    """Trust ratios of a run, update by update.

    Attributes:
        learning_rates: Rate before the ratio, float32 of shape (updates,).
        paths: Of the trainable variables, in the model's order.
        shapes: Theirs.
        ratios: float32 of shape (updates, variables); 1 where there is none.

    Example:
        >>> recording = Recording(np.ones(3, np.float32), ("kernel",), ((2,),),
        ...     np.array([[2.0], [9.0], [4.0]], np.float32))
        >>> recording.median().ratios.ravel().tolist()
        [4.0, 4.0, 4.0]
    """

    learning_rates: np.ndarray
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    ratios: np.ndarray

    def median(self) -> "Recording":
        """The same with each variable's median ratio at every update."""
        medians = np.median(self.ratios, axis=0, keepdims=True)
        ratios = np.broadcast_to(medians, self.ratios.shape)
        return self._replace(ratios=ratios.astype(np.float32))

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an .npz file with an array "learning_rate", and for every
        variable an array of ratios that is called as its number and path."""
        columns = {
            f"{i}:{name}:{','.join(map(str, self.shapes[i]))}": column
            for i, (name, column) in enumerate(zip(self.paths, self.ratios.T))
        }
        with files.replacing(path) as file:
            np.savez(file, **{_RATES: self.learning_rates, **columns})


def load(path: str | pathlib.Path) -> Recording:
    """The recording that `Recording.save` wrote.

    Raises:
        OSError, ValueError: It cannot be read, or is none; names the file.
    """
    stored = npz.read(path)
    rates = stored.pop(_RATES, None)
    try:
        keys = [key.split(":") for key in stored]
        paths = tuple(":".join(key[1:-1]) for key in keys)
        shapes = tuple(
            tuple(int(n) for n in key[-1].split(",") if n) for key in keys
        )
        ratios = np.stack([*stored.values()], axis=1)
        if ratios.shape != (len(rates), len(paths)):
            raise ValueError("arrays of unequal length")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a recording of lbcheck.instruments.transplant "
            f"({error})."
        ) from error
    return Recording(rates, paths, shapes, ratios)


class Recorder:
    """Records the trust ratios of an optimizer, update by update.

    Args:
        optimizer: A new `lbcheck.LAMB(diagnostics_every=1)`, in paper's form:
            decay inside the ratio and no Nesterov step.

    Raises:
        TypeError, ValueError: It is another, or has another period.

    Example, with `fit`, whose steps_per_execution must be 1:

        recorder = transplant.Recorder(model.optimizer)
        look = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: recorder.look())
        model.fit(x, y, callbacks=[look])
        recorder.recording().save("lamb.npz")

    On JAX, `model.jax_state_sync()` comes before `recorder.look()`.
    """

    def __init__(self, optimizer: base.Optimizer):
        self._optimizer = optimizer
        _rule(optimizer)
        if optimizer.diagnostics_every != 1:
            raise ValueError(
                "A transplant needs the ratio of every update: "
                "diagnostics_every must be 1, received "
                f"{optimizer.diagnostics_every}."
            )
        self._rates: list[float] = []
        self._ratios: list[list[float]] = []

    def look(self) -> None:
        """Keeps what the update that was made last did.

        Raises:
            ValueError: It is not the one after the last that was kept, or
                `fit` has the optimizer's state elsewhere, as it does on JAX.
        """
        try:
            updates = self._optimizer.completed_updates()
        except TypeError as error:  # a variable without a value
            raise ValueError(
                "`fit` on JAX has the optimizer's state elsewhere: call "
                "model.jax_state_sync() before look()."
            ) from error
        if updates != len(self._rates) + 1:
            raise ValueError(
                f"expected update {len(self._rates) + 1}, received {updates}: "
                "record from the first update on, and every one "
                "(steps_per_execution=1)."
            )
        found = list(self._optimizer.diagnostics().values())
        self._rates.append(found[0].learning_rate)
        self._ratios.append([one.trust_ratio for one in found])

    def recording(self) -> Recording:
        """What was kept so far.

        Raises:
            ValueError: Nothing was.
        """
        if not self._rates:
            raise ValueError("no update was recorded; expected at least one.")
        assignments = self._optimizer.assignments
        return Recording(
            np.asarray(self._rates, np.float32),
            tuple(assignment.path for assignment in assignments),
            tuple(assignment.shape for assignment in assignments),
            np.asarray(self._ratios, np.float32),
        )


def record(model: Any, batches: Iterable[tuple]) -> Recording:
    """Trains a model with LAMB and records the ratios.

    Args:
        model: Compiled with a new `lbcheck.LAMB(diagnostics_every=1)`.
        batches: (x, y) or (x, y, sample_weight), one an update.

    Raises:
        TypeError, ValueError: As `Recorder`; there are no batches.

    Example: `record(model, [(x, y)] * 10).save("lamb.npz")`
    """
    recorder = Recorder(model.optimizer)
    for batch in batches:
        model.train_on_batch(*batch)
        recorder.look()
    return recorder.recording()


def replay(
    recording: Recording,
    lamb: base.Optimizer,
    learning_rate: base.Rate | None = None,
) -> base.Optimizer:
    r"""AdamW whose rate for each variable is the one that LAMB had there.

    LAMB's update, with r Adam's direction and \(\rho_t\) the trust ratio, is

    $$ w' = w - \eta_t \rho_t (r + \lambda w)
          = (1 - \eta_t \rho_t \lambda) w - \eta_t \rho_t r $$

    which is AdamW's at the rate \(\eta_t \rho_t\). On the same data and
    initial weights the weights are LAMB's, to the rounding of float32.

    Args:
        recording: Of the same architecture: variables are taken in order, and
            their shapes must agree. After its updates the last ratios hold,
            and the last of its rates.
        lamb: The optimizer that was recorded, for its settings.
        learning_rate: Another rate than the recorded one, as every optimizer
            takes it: a number, a schedule, which goes on after the
            recording, or a callable without arguments.

    Returns:
        A new optimizer of the same Keras, to compile a new model with. It
        cannot be saved; save the recording.

    Raises:
        TypeError, ValueError: `lamb` is no LAMB of the paper's form, or the
            rate is none; when the optimizer is built, the model has other
            shapes.

    Example:

        recording = transplant.record(model, batches)
        other.compile(transplant.replay(recording.median(), model.optimizer),
                      loss="mse")

    Source: You et al. 2019, Algorithm 2; Loshchilov and Hutter 2019,
        Algorithm 2.
    """
    rule = _rule(lamb)
    room = importlib.import_module(f"lbcheck.{lamb.keras_name}")
    config = lamb.get_config()
    of_keras = (*keras_arguments.ALL, *lamb.keras_own)
    if learning_rate is None:
        learning_rate = 1.0
    else:
        ones = np.ones_like(recording.learning_rates)
        recording = recording._replace(learning_rates=ones)
    # Of the class, since Keras takes apart what is put on an optimizer.
    attributes = {"transplanted": recording}
    bases = (_Transplanted, room.AdamW)
    return type("TransplantedAdamW", bases, attributes)(
        learning_rate=learning_rate,
        exclude_from_weight_decay=config["exclude_from_weight_decay"],
        **{name: getattr(rule, name) for name in _NUMBERS},
        **{n: config[n] for n in of_keras if config.get(n) is not None},
    )


class _Transplanted:
    """Mixed into AdamW: its rate times that of the recording, for every
    variable."""

    transplanted: Recording

    def plan(self, paths, shapes):
        """AdamW's plan, with the recorded rate of every variable."""
        recorded = self.transplanted
        given = tuple(tuple(shape) for shape in shapes)
        if given != recorded.shapes:
            raise ValueError(
                "A transplant needs a model of the recorded shapes: expected "
                f"{recorded.shapes}, received {given}."
            )
        rates = recorded.learning_rates[:, None] * recorded.ratios
        return tuple(
            assignment._replace(rate=column)
            for assignment, column in zip(super().plan(paths, shapes), rates.T)
        )

    def _rate(self, assignment, learning_rate):
        step = arrays.unwrap(self.update_count)
        xp = arrays.namespace(step, ())
        place = xp.minimum(xp.count(step), len(assignment.rate) - 1)
        return xp.number(learning_rate) * xp.convert(assignment.rate)[place]

    def get_config(self):
        """None: it would be AdamW without the transplant.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "A transplanted AdamW cannot be saved; save the model's weights "
            "and the recording."
        )


def _rule(optimizer):
    """The rule of a LAMB whose direction is AdamW's."""
    rule = getattr(optimizer, "rule", None)
    if not isinstance(rule, LAMBRule):
        raise TypeError(
            "A transplant records lbcheck.LAMB(diagnostics_every=1), received "
            f"{optimizer!r}."
        )
    for name, value in _AS_ADAMW.items():
        if getattr(rule, name) != value:
            raise ValueError(
                "A transplant needs LAMB whose direction is AdamW's: "
                f"{name}={value!r}, received {getattr(rule, name)!r}."
            )
    if callable(rule.beta_1):
        raise ValueError(
            "A transplant needs LAMB with a number as beta_1, received "
            f"{rule.beta_1!r}."
        )
    config = optimizer.get_config()
    if config["fallback"] is not None:
        raise ValueError(
            "A transplant needs LAMB without a fallback, whose variables "
            "AdamW would train in another way."
        )
    if config.get("gradient_accumulation_steps") is not None:
        raise ValueError(
            "A transplant needs LAMB with an update for every batch: "
            "gradient_accumulation_steps must be None, received "
            f"{config['gradient_accumulation_steps']!r}."
        )
    return rule
