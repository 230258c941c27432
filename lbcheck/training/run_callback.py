"""The callback of a run: measures, evaluates, saves and stops at the right
update. A Keras epoch is one interval of `log_every` updates here."""

import json
import math
import sys
import time

import tqdm

from lbcheck.support import event_file
from lbcheck.training.backends import engines


class Diverged(Exception):
    """The loss or a variable became non-finite; args: (step, variable)."""


class Interrupted(Exception):
    """A signal came, and what could be saved is saved; args: (step,)."""


class Conductor:
    """See the module docstring; mixed with a Keras's Callback class.

    Args:
        options: `Options` of the run.
        engine: Engine that trains.
        record: Record of the run, or None where another worker writes it.
        begin: Called once, after the first update.
        source: The data.
        interruption: Object whose attribute `requested` a signal sets.
    """

    # tf_keras then leaves the logs of a batch on the device: reading them
    # would wait for it after every update.
    _supports_tf_logs = True

    def __init__(self, options, engine, record, begin, source, interruption):
        super().__init__()
        self._options = options
        self._engine = engine
        self._record = record
        self._begin = begin
        self._source = source
        self._interruption = interruption
        self._metrics = {}
        self._events = None
        self._bar = None
        self._timed = False
        self.step = 0

    def start(self, step: int, metrics) -> None:
        """Continues after `step` updates, in the middle of an interval if
        `metrics`, what it had measured by then, is not empty."""
        self.step = self._epoch_start = step
        self._metrics = metrics

    def on_epoch_begin(self, epoch, logs=None):
        """Notes where the interval begins; resumed metrics go on."""
        self._epoch_start = self.step
        self._clock = time.perf_counter()
        if self._metrics:
            self._engine.assign_metrics(self._metrics)
            self._metrics = {}

    def on_train_batch_end(self, batch, logs=None):
        """Counts updates; looks for a signal to stop."""
        self.step = self._epoch_start + batch + 1
        if self._begin:
            self._open()
        if self._bar is not None:
            self._bar.update(self.step - self._bar.n)
        self._engine.watch(self.step, logs)
        if (
            self._interruption.requested
            and self._in_interval()
            and not self._engine.multi_worker  # one cannot save alone
        ):
            self._check_finite(logs)
            self._save(in_interval=True)
            raise Interrupted(self.step)

    def on_epoch_end(self, epoch, logs=None):
        """One line of measurements, and what else is due."""
        if self._in_interval():
            raise ValueError(
                f"The training data ended after {self.step} updates."
            )
        self._check_finite(logs)
        seconds = time.perf_counter() - self._clock
        last = self.step == self._options.total_steps
        line = {
            "step": self.step,
            "epoch": self.step
            * self._options.batch_size
            / self._source.num_train,
            "learning_rate": self._engine.learning_rate(),
            **{
                name: float(logs[name])
                for name in sorted(logs, key=_loss_first)
            },
        }
        if last or self._due(self._options.evaluate_every, never=True):
            for part in engines.parts(self._source):
                metrics = self._engine.evaluate(self._source, part)
                metrics = {f"{part}_{k}": v for k, v in metrics.items()}
                self._check_metrics(metrics)
                line |= metrics
        self._report(line, seconds)
        due = self._due(self._options.checkpoint_every)
        alone = self._interruption.requested and not self._engine.multi_worker
        if last or due or alone:
            self._save(in_interval=False)
            if self._interruption.requested and not last:
                raise Interrupted(self.step)

    def close(self) -> None:
        """Ends the bar and the event file."""
        if self._bar is not None:
            self._bar.close()
        if self._events:
            self._events.close()

    def _in_interval(self):
        return bool(
            self.step % self._options.log_every
            and self.step != self._options.total_steps
        )

    def _due(self, every, never=False):
        if every is None:
            return not never
        return self.step % every == 0

    def _open(self):
        self._begin()
        self._begin = None
        if self._record is None:
            return
        self._events = event_file.open_if_installed(
            self._record.folder / "tensorboard"
        )
        if self._options.progress:
            self._bar = tqdm.tqdm(
                total=self._options.total_steps,
                initial=self.step - 1,
                unit=" examples",
                unit_scale=self._options.batch_size,
                disable=None,  # only on a terminal
            )

    def _check_finite(self, logs):
        bad = self._engine.first_bad(self.step)
        if bad:
            raise Diverged(*bad)
        self._check_metrics(logs)

    def _check_metrics(self, metrics):
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(self.step - 1, f"the metric {name}")

    def _report(self, line, seconds):
        if self._record is None:
            return
        updates = self.step - self._epoch_start
        rate = updates * self._options.batch_size / seconds
        self._record.measure(
            line, {"step": self.step, "examples_per_second": rate}
        )
        if self._events:
            for name, value in {**line, "examples_per_second": rate}.items():
                if name != "step":
                    self._events.scalar(self.step, name, value)
            self._events.flush()
        if self._options.progress:
            left = (self._options.total_steps - self.step) * seconds / updates
            text = _sentence(line)
            if self._timed:  # the first interval was also compiled
                left = tqdm.tqdm.format_interval(left)
                text += f"  ({rate:.0f} examples/s, {left} left)"
            self._timed = True
            tqdm.tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def _save(self, in_interval):
        arrays = self._engine.state(with_metrics=in_interval)
        if self._record is not None:
            self._record.checkpoints.save(self.step, arrays)


def _loss_first(name):
    return name != "loss", name


def _sentence(line):
    numbers = "  ".join(
        f"{name} {json.dumps(round(value, 5))}"
        for name, value in line.items()
        if name not in ("step", "epoch", "learning_rate")
    )
    return (
        f"update {line['step']}  epoch {line['epoch']:.2f}  "
        f"rate {line['learning_rate']:.4g}  {numbers}"
    )
