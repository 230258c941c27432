"""`run`: from options, a workload and data to a finished record."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import sys
import tempfile

import lbcheck
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import random_state
from lbcheck.training import cluster
from lbcheck.training.backends import engines
from lbcheck.training.backends.engines import Workload
from lbcheck.training.options import Options
from lbcheck.training.record import Record
from lbcheck.training.record import describe_start
from lbcheck.training.record import difference
from lbcheck.training.run_callback import Conductor
from lbcheck.training.run_callback import Diverged
from lbcheck.training.run_callback import Interrupted

_UNNAMED = ("Could not parse example input", "Unsupported datatype")

_WEIGHTS = "model.weights.h5"

__all__ = ["Workload", "evaluate", "plan", "run", "tpu_problems"]


class Interruption:
    """While it is entered, SIGTERM and the first Ctrl-C set `requested`."""

    def __init__(self):
        self.requested = False
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *unused):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number, frame):
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def plan(options: Options, source, flagfile: str) -> dict:
    """How a run will divide its batch, without training.

    Args:
        options: Settings of the run.
        source: Data, for the number of examples; None: there is none.
        flagfile: As `run` takes it.

    Returns:
        {"record", "devices", "replicas", "replica_batch",
        "microbatch_size", "microbatches", "steps", "epochs"}, without data
        no "epochs".

    Raises:
        ValueError: If the batch does not divide, or the folder holds
            another run.
    """
    record = Record(options.output_dir, flagfile)
    newest = record.resumable(options.log_every, options.total_steps)
    with random_state.kept():
        engine = engines.make(_as_it_is(options))
    engines.check_ghost_batches(options, engine.layout)
    found = {
        "record": f"continues after {newest[0]} updates" if newest else "new",
        "devices": engine.devices,
        "replicas": engine.layout.replicas,
        "replica_batch": engine.layout.replica_batch,
        "microbatch_size": engine.layout.element,
        "microbatches": engine.layout.microbatches,
        "steps": options.total_steps,
    }
    if source is not None:
        examples = options.total_steps * options.batch_size
        found["epochs"] = examples / source.num_train
        try:
            engines.check_data(options, source)
            record.check_continues(_examples(source), {})
        except ValueError as error:
            found["refused without --dry_run"] = str(error)
    return found


def tpu_problems(options: Options, build, source, cores: int = 2) -> list[str]:
    """What a TPU would not compile of training and evaluation.

    Nothing runs, and no TPU is needed: the programs that all its cores would
    be given are traced, lowered and judged (`backends/tpu_programs.py`).

    Args:
        options: Settings of the run, in tf_keras; the batch divides among the
            cores.
        build: As `run` takes it.
        source: As `run` takes it; of each part a first batch is read.
        cores: Of the TPU, at least 1. The variables take memory as often.

    Returns:
        A line for each operation that a TPU does not have, dynamic shape,
        float64 and exchange with the host; [] is best.

    Raises:
        ValueError: The batch does not divide.

    Example:
        >>> import numpy as np
        >>> from lbcheck import training
        >>> class Source:
        ...     num_train, parts = 8, ()
        ...     def train(self, size, start=0, shard=0, num_shards=1):
        ...         while True:
        ...             yield np.ones((size, 3)), np.ones((size, 1))
        >>> def build(keras, optimizers):
        ...     def loss(y, predicted):
        ...         return keras.backend.print_tensor(predicted - y)
        ...     model = keras.Sequential([keras.layers.Dense(1)])
        ...     model.build((None, 3))
        ...     return training.Workload(model, optimizers.LARS(0.1), loss, [])
        >>> options = training.Options("unwritten", batch_size=8, total_steps=1)
        >>> print(training.tpu_problems(options, build, Source())[0][:55])
        train: program 1: StringFormat is no operation of a TPU

    Source: TensorFlow's own TPUStrategy, tf2xla, and the kernels of
    tensorflow-tpu; docs/tpu.md says what this proves and what not.
    """
    if options.keras != "tf_keras":
        raise ValueError(
            f"keras={options.keras!r}: only keras='tf_keras' trains on a TPU."
        )
    options = dataclasses.replace(
        _as_it_is(options), distribution="tpu", tpu=f"none:{cores}"
    )
    with random_state.kept():
        engine = engines.make(options)
        engines.check_ghost_batches(options, engine.layout)
        engine.build(build)
        return engine.tpu_problems(source)


def _as_it_is(options):
    """The options without what would change the process for good."""
    return dataclasses.replace(options, deterministic=False)


def evaluate(
    options: Options, build, source, flagfile: str
) -> dict[str, float]:
    """Metrics of the newest checkpoint over all examples that are evaluated.

    Args:
        options: As the run had them.
        build: As `run` takes it.
        source: The data.
        flagfile: As `run` takes it.

    Returns:
        {"step": updates of the checkpoint, metric name: value}, where the
        source has several parts {..., part_name: value}.

    Raises:
        ValueError: If `options.output_dir` holds no whole checkpoint, or
            that of another run.
    """
    options.check_runs()
    found = Record(options.output_dir, flagfile).checkpoints.newest()
    if found is None:
        raise ValueError(
            f"{options.output_dir} holds no whole checkpoint to evaluate."
        )
    metrics = {"step": found[0]}
    parts = engines.parts(source)
    with random_state.kept():
        engine = engines.make(options)
        _check_alike(engine, flagfile, {"updates until now": found[0]})
        engine.build(build)
        engine.restore(*found, source)
        for part in parts:
            prefix = f"{part}_" if len(parts) > 1 else ""
            for name, value in engine.evaluate(source, part).items():
                metrics[prefix + name] = value
    return metrics


def run(options: Options, build, source, flagfile: str, settings: dict) -> int:
    """Trains, or continues the run that `options.output_dir` holds.

    Args:
        options: Settings of the run.
        build: (keras, optimizers) -> `Workload`; called under the strategy's
            scope with the Keras module and lbcheck's optimizers for it.
        source: `train(batch_size, start, shard, num_shards)` gives an
            endless iterable or tf.data.Dataset of (inputs, labels), element
            k the part `shard` of block start + k; `validation(batch_size,
            shard, num_shards)` all examples once with weights, the last
            batches filled up with examples of weight 0; `num_train` and
            `num_validation` count them. `parts`, if there, names the methods
            such as `validation` that are evaluated; `verify`, if there, reads
            all files and raises ValueError with the name of a damaged one.
        flagfile: What runs this again; another one in the folder refuses.
        settings: Resolved settings for the record, as JSON takes them; the
            objects among them refuse where they are others than at first.

    Returns:
        An exit code of `lbcheck.support.exit_codes`.

    Raises:
        OSError, ValueError: Before anything is written: the folder holds
            another run, or one of other data, or cannot be written to, the
            batch does not divide, the data cannot be read, or another worker
            has another command.
        errors.Unavailable: Another worker does not come.
    """
    options.check_runs()
    engines.check_data(options, source)
    record = Record(options.output_dir, flagfile)
    if record.status().get("status") == "finished":
        print(f"{options.output_dir}: finished before; nothing to do.")
        for line in record.measurements()[-1:]:
            print(json.dumps(line))
        return exit_codes.FINISHED
    record.check_continues(_examples(source), settings)
    record.check_place()
    with random_state.kept():
        with cluster.signals_end():  # nothing is there to save yet
            engine = engines.make(options)
            counts = {f"{p} examples": n for p, n in _examples(source).items()}
            _check_alike(engine, flagfile, counts)
            engines.check_ghost_batches(options, engine.layout)
            engine.build(build)
        with Interruption() as interruption:
            return _Run(
                options, engine, record, source, settings, interruption
            ).train()


def _examples(source):
    """{part of the data: its number of examples}."""
    parts = ("train", *engines.parts(source))
    counts = {part: getattr(source, f"num_{part}", None) for part in parts}
    return {part: int(n) for part, n in counts.items() if n is not None}


def _check_alike(engine, flagfile, counts):
    """Refuses workers that would not train, or evaluate, one run together."""
    ours = flagfile + "".join(f"{n}: {count}\n" for n, count in counts.items())
    for theirs in engine.texts(ours):
        if differs := difference(theirs, ours):
            raise ValueError(
                "The workers of TF_CONFIG need the same command and data, and "
                "an --output_dir that all of them see; another one differs "
                f"from this one in {differs}."
            )


class _Run:
    """One process's part in a run."""

    def __init__(self, options, engine, record, source, settings, interruption):
        self._options = options
        self._engine = engine
        self._record = record
        self._source = source
        self._settings = settings
        callback = type(
            "Conductor", (Conductor, engine.keras.callbacks.Callback), {}
        )
        self._conductor = callback(
            options,
            engine,
            record if engine.writes else None,
            self._begin,
            source,
            interruption,
        )
        self._begun = False

    def train(self) -> int:
        """Trains to the end; an exit code."""
        try:
            self._resume()
            for epochs, steps in self._segments():
                self._engine.fit(
                    self._source,
                    self._conductor.step,
                    epochs,
                    steps,
                    self._callbacks(),
                )
            self._finish()
            self._engine.meet()  # what comes after may read the record
            return exit_codes.FINISHED
        except Diverged as error:
            return self._diverged(*error.args)
        except Interrupted as error:
            return self._end(
                exit_codes.INTERRUPTED,
                "interrupted",
                f"Interrupted after {error.args[0]} updates; run the same "
                "command again to continue.",
            )
        except Exception as error:
            return self._failed(error)
        finally:
            with contextlib.suppress(OSError):  # a full disk, said before
                self._conductor.close()
            self._record.release()

    def _resume(self):
        found = self._record.resumable(
            self._options.log_every, self._options.total_steps
        )
        step, metrics = found[0] if found else 0, {}
        _check_alike(self._engine, "", {"updates until now": step})
        if found:
            metrics = self._engine.restore(*found, self._source)
            print(f"Continues after {step} updates.", flush=True)
        self._conductor.start(step, metrics)
        self._resumed = step

    def _segments(self):
        """(intervals, updates in each): to the next boundary, then whole
        intervals, then what is left."""
        every, total = self._options.log_every, self._options.total_steps
        head = min(-self._conductor.step % every, total - self._conductor.step)
        if head:
            yield 1, head
        whole = (total - self._conductor.step) // every
        if whole:
            yield whole, every
        tail = total - self._conductor.step
        if tail:
            yield 1, tail

    def _callbacks(self):
        callbacks = [self._conductor]
        if self._options.diagnostics and self._engine.writes:
            optimizers = getattr(lbcheck, self._options.keras)
            folder = self._record.folder / "tensorboard"
            callbacks.append(optimizers.DiagnosticsCallback(folder))
        return callbacks

    def _begin(self):
        """Opens the record; what fails before leaves nothing behind."""
        if not self._engine.writes:
            self._begun = True
            return
        selection = lbcheck.audit(self._engine.model)
        self._record.begin(
            {
                "seed": self._options.seed,
                "examples": _examples(self._source),
                "settings": self._settings,
            },
            describe_start(self._resumed, self._engine.devices),
            str(selection),
        )
        self._record.forget_after(self._resumed)
        self._begun = True

    def _finish(self):
        with tempfile.TemporaryDirectory() as folder:
            # Reading takes all workers, so the others write a copy too.
            weights = pathlib.Path(folder, _WEIGHTS)
            with self._engine.evaluated():
                self._engine.model.save_weights(weights)
            if not self._engine.writes:
                return
            if not self._begun:
                self._begin()  # killed between the last checkpoint and the end
            with (
                open(weights, "rb") as whole,
                files.replacing(self._record.folder / _WEIGHTS) as file,
            ):
                shutil.copyfileobj(whole, file)
        self._record.tabulate()
        self._record.set_status("finished", step=self._options.total_steps)

    def _diverged(self, step, variable):
        what = variable or "the loss"
        return self._end(
            exit_codes.DIVERGED,
            "diverged",
            f"Diverged: {what} is not finite after update {step} "
            "(counted from 0).",
            first_non_finite_step=step,
            first_non_finite_variable=variable,
        )

    def _failed(self, error):
        if self._engine.multi_worker and _is_lost_worker(error):
            message = (
                "Another worker is gone. Start all workers again with the "
                f"same command; they go on after the last checkpoint. "
                f"({brief(error)})"
            )
            print(message, file=sys.stderr, flush=True)
            return exit_codes.UNAVAILABLE
        if not _is_refusal(error):
            raise error
        message = named(error, self._source)
        if not self._begun:
            raise ValueError(message) from error
        return self._end(exit_codes.REFUSED, "refused", message)

    def _end(self, code, status, message, **details):
        print(message, file=sys.stderr, flush=True)
        if self._engine.writes and self._begun:
            with contextlib.suppress(OSError):  # a full disk, said before
                self._record.set_status(
                    status,
                    step=self._conductor.step,
                    message=message,
                    **details,
                )
                self._record.tabulate()
        return code


def _is_refusal(error) -> bool:
    """Whether the error is about the input rather than about this code."""
    names = (
        "InvalidArgumentError",
        "DataLossError",
        "NotFoundError",
        "ResourceExhaustedError",
    )
    return isinstance(error, (ValueError, OSError)) or (
        type(error).__name__ in names
    )


def _is_lost_worker(error) -> bool:
    names = (
        "UnavailableError",
        "AbortedError",
        "InternalError",
        "DeadlineExceededError",
        "CancelledError",
        "FailedPreconditionError",
    )
    return type(error).__name__ in names


def named(error, source) -> str:
    """The message; TensorFlow does not say which file is damaged.

    Its message of a damaged record may hold bytes that are no text, which
    arrives here as a UnicodeDecodeError.
    """
    kinds = ("DataLossError", "UnicodeDecodeError")
    unnamed = type(error).__name__ in kinds or any(
        text in str(error) for text in _UNNAMED
    )
    if unnamed and hasattr(source, "verify"):
        try:
            source.verify()
        except ValueError as found:
            return str(found)
    return brief(error)


def brief(error) -> str:
    """The message without TensorFlow's traces and listings of the graph."""
    if isinstance(error, OSError):
        return errors.of_system(error)
    text = " ".join(errors.cleaned(error).split())
    return text.removeprefix("ValueError: ")
