"""Writes an optimizer's diagnostics to TensorBoard while Keras trains."""

import math

from lbcheck.support import event_file


class DiagnosticsWriter:
    """Callback that writes what the optimizer recorded, update by update.

    Needs an lbcheck optimizer with `diagnostics_every=k`; the recording is
    part of its traced step, so nothing is traced again. After each batch
    (each group of `steps_per_execution`) it writes what was recorded last,
    under the number of that update: the scalars
    `trust_ratio/PATH`, `effective_rate/PATH`, `weight_norm/PATH`,
    `gradient_norm/PATH`, `update_norm/PATH` and `learning_rate`, and
    histograms over the variables of `trust_ratio` and `effective_rate`.

    Args:
        log_dir: Folder of the event file; it is created.

    Raises:
        ValueError: At the start of training, if the optimizer records
            nothing.
        ModuleNotFoundError: If tensorboard is not installed.

    Example:

        model.compile(optimizer=lbcheck.LAMB(diagnostics_every=100), ...)
        model.fit(x, y, callbacks=[lbcheck.DiagnosticsCallback("logs")])

    Source: the plots of You et al. 2019, Figures 9 to 14.
    """

    def __init__(self, log_dir):
        super().__init__()
        self._log_dir = str(log_dir)
        self._writer = None
        self._written = -1
        self._calls = 0

    def on_train_begin(self, logs=None):
        """Checks the optimizer and opens the event file."""
        optimizer = self._optimizer()
        if not getattr(optimizer, "diagnostics_every", 0):
            raise ValueError(
                "DiagnosticsCallback needs an lbcheck optimizer that records, "
                "for instance lbcheck.LAMB(diagnostics_every=100); received "
                f"{optimizer!r}."
            )
        self._writer = event_file.EventFile(self._log_dir)

    def on_train_batch_end(self, batch, logs=None):
        """Writes if an update was recorded since the last time."""
        optimizer = self._optimizer()
        every = optimizer.diagnostics_every
        if hasattr(self.model, "jax_state_sync"):
            # On jax the state is elsewhere between epochs; fetching it costs.
            self._calls += 1
            if (self._calls - 1) % every:
                return
            self.model.jax_state_sync()
        step = (optimizer.completed_updates() - 1) // every * every
        if step > self._written:
            self._write(step, optimizer)
            self._written = step

    def on_train_end(self, logs=None):
        """Closes the event file."""
        self._writer.close()

    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def _write(self, step, optimizer):
        diagnostics = optimizer.diagnostics()
        if all(math.isnan(v.learning_rate) for v in diagnostics.values()):
            return  # Another process recorded it, and no file keeps that.
        for path, values in diagnostics.items():
            numbers = values._asdict()
            del numbers["learning_rate"]
            numbers["effective_rate"] = values.effective_rate
            for name, value in numbers.items():
                self._writer.scalar(step, f"{name}/{path}", value)
        rates = [
            diagnostics[assignment.path].learning_rate
            for assignment in optimizer.assignments
            if assignment.rate is None and not assignment.fallback
        ]
        for rate in rates[:1]:
            self._writer.scalar(step, "learning_rate", rate)
        for name in ("trust_ratio", "effective_rate"):
            numbers = [getattr(v, name) for v in diagnostics.values()]
            self._writer.histogram(step, name, numbers)
        self._writer.flush()
