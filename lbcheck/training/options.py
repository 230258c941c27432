"""Options of a run, apart from its model and data, and how it may end."""

import dataclasses
import re

from lbcheck.training import cluster

DISTRIBUTIONS = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
KERASES = ("tf_keras", "keras3")
PRECISIONS = ("bfloat16", "float16")
_NOT_THERE = re.compile("none:([1-9][0-9]{0,3})")


def cores_not_there(tpu: str | None) -> int:
    """8 for "none:8", 0 for a TPU that there is and for None."""
    found = _NOT_THERE.fullmatch(tpu or "")
    return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of a run that no model and no optimizer owns.

    Args:
        output_dir: Folder of the run's record; the same command continues
            with what is in it, another command is refused.
        batch_size: Examples of one update, over all replicas.
        total_steps: Updates of the whole run.
        microbatch_size: Examples that a replica puts through the network at
            once; divides its share of the batch. None: its whole share.
        evaluation_batch_size: Examples per evaluation step, over all
            replicas. None: as many as training computes at once.
        seed: Seed of the data's order and of all other randomness; at least
            0.
        log_every: Updates between two lines of measurements, which is also
            the longest delay until non-finite numbers stop the run.
        evaluate_every: Updates between two evaluations, a multiple of
            `log_every`; None: only at the end.
        checkpoint_every: Updates between two checkpoints, a multiple of
            `log_every`, and at the end. None: at every `log_every`.
        distribution: One of `DISTRIBUTIONS`; "auto" takes the TPU that
            `tpu` names, several workers of TF_CONFIG, several GPUs, or the
            one device.
        tpu: Name or address of a TPU, "local" on its own machine, or None.
            "none:8" are 8 cores that are not there: `plan` divides the batch
            among them, and `run` refuses.
        steps_per_execution: Updates in one call of the compiled function;
            divides `log_every`.
        xla: Compile the step with XLA; None: only on a TPU and on jax, where
            nothing else is possible.
        mixed_precision: None, "bfloat16" or "float16".
        deterministic: Bit-identical results in every run, at some cost in
            speed.
        diagnostics: Write the optimizer's diagnostics to TensorBoard; it
            needs `diagnostics_every`.
        keras: "tf_keras", or "keras3" on one device, whatever its backend.
            On jax and torch Keras 3 shows its loss only: that a variable
            became non-finite is noticed an update later, or at the end of
            the call. On torch it takes no `microbatch_size`.
        progress: Show a progress bar.
        virtual_batch_size: Examples whose statistics a layer of the model
            takes together; divides what a replica trains on at once. 0: all
            of a replica's share of the batch. None: no layer does so.

    Raises:
        ValueError: A number out of range, sizes that do not divide, or an
            unknown choice.
    """

    output_dir: str
    batch_size: int
    total_steps: int
    microbatch_size: int | None = None
    evaluation_batch_size: int | None = None
    seed: int = 0
    log_every: int = 100
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    distribution: str = "auto"
    tpu: str | None = None
    steps_per_execution: int = 1
    xla: bool | None = None
    mixed_precision: str | None = None
    deterministic: bool = False
    diagnostics: bool = False
    keras: str = "tf_keras"
    progress: bool = True
    virtual_batch_size: int | None = None

    def __post_init__(self):
        for name in (
            "batch_size",
            "total_steps",
            "microbatch_size",
            "evaluation_batch_size",
            "log_every",
            "evaluate_every",
            "checkpoint_every",
            "steps_per_execution",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"{name} must be at least 1, received {value}."
                )
        for name, value in (
            ("seed", self.seed),
            ("virtual_batch_size", self.virtual_batch_size or 0),
        ):
            if value < 0:
                raise ValueError(
                    f"{name} must be at least 0, received {value}."
                )
        for name, choices in (
            ("distribution", DISTRIBUTIONS),
            ("keras", KERASES),
            ("mixed_precision", (None, *PRECISIONS)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name} must be one of {choices}, received {value!r}."
                )
        for name in ("evaluate_every", "checkpoint_every"):
            self._divides("log_every", name)
        self._divides("steps_per_execution", "log_every")
        if self.keras == "keras3":
            self._check_keras3()

    def check_runs(self) -> None:
        """Refuses to train or evaluate on a TPU that is not there.

        Raises:
            ValueError: Names it.
        """
        if cores_not_there(self.tpu):
            raise ValueError(
                f"tpu={self.tpu!r} is a TPU that is not there, on which "
                "nothing runs; name one that is, or see its plan by a dry run."
            )

    def _divides(self, small, large):
        few, many = getattr(self, small), getattr(self, large)
        if many is not None and many % few:
            raise ValueError(
                f"{large}={many} is not a multiple of {small}={few}."
            )

    def _check_keras3(self):
        if self.distribution not in ("auto", "one_device"):
            raise ValueError(
                f"distribution={self.distribution!r} needs keras='tf_keras': "
                "Keras 3 cannot train under tf.distribute with several "
                "workers or a TPU."
            )
        if self.tpu is not None:
            raise ValueError(f"tpu={self.tpu!r} needs keras='tf_keras'.")
        if self.distribution == "auto" and cluster.read().others:
            raise ValueError(
                "TF_CONFIG names other workers, with which only "
                "keras='tf_keras' trains; distribution='one_device' trains "
                "alone."
            )
        if self.total_steps % self.steps_per_execution:
            raise ValueError(
                f"total_steps={self.total_steps} is not a multiple of "
                f"steps_per_execution={self.steps_per_execution}, as "
                "keras='keras3' needs."
            )
