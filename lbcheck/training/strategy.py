"""tf.distribute strategies by name."""

import functools

import tensorflow as tf

from lbcheck.support import errors
from lbcheck.training import cluster
from lbcheck.training import options


def make(distribution: str, tpu: str | None = None):
    """The strategy for a name of `options.DISTRIBUTIONS`.

    Args:
        distribution: "auto" decides by `tpu`, TF_CONFIG and the GPUs;
            "mirrored" takes all GPUs, or all logical CPUs without GPU.
        tpu: Name or address of a TPU; "local" (or None) on its machine;
            "none:8" for 8 cores that are not there, on which nothing runs
            but all is traced (see `backends/tpu_programs.py`).

    Raises:
        ValueError: A TPU is named for another distribution or does not
            answer, or TF_CONFIG is missing or wrong.
        errors.Unavailable: Another worker does not answer.
    """
    if distribution == "auto":
        distribution = _decide(tpu)
    if tpu is not None and distribution != "tpu":
        raise ValueError(
            f"tpu={tpu!r} does not apply to distribution={distribution!r}; "
            "only distribution='tpu' uses it."
        )
    if distribution == "tpu":
        return _tpu(tpu or "local")
    if distribution == "multi_worker":
        cluster.check_several()
        return _multi_worker()
    if distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    return tf.distribute.get_strategy()


def is_chief(strategy) -> bool:
    """Whether this process writes files: worker 0, or the only one."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    if has_chief:
        return resolver.task_type == "chief"
    return not resolver.task_id


def is_multi_worker(strategy) -> bool:
    """Whether other processes train along."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _decide(tpu):
    if tpu is not None:
        return "tpu"
    if cluster.read().others:
        return "multi_worker"
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


@functools.cache  # TensorFlow starts once with others, for all runs
def _multi_worker():
    workers = cluster.read()
    with cluster.signals_end():
        cluster.meet(workers)
        with cluster.signals_wait(), cluster.starting():
            try:
                return tf.distribute.MultiWorkerMirroredStrategy()
            except tf.errors.OpError as error:
                raise errors.Unavailable(
                    f"{workers.own} and {', '.join(workers.others)} answered, "
                    f"but did not start together: {error.message}"
                ) from error


def _tpu(address):
    if cores := options.cores_not_there(address):
        from lbcheck.training.backends import tpu_programs

        return tpu_programs.stand_in(cores)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(address)
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, OSError, ValueError) as error:
        reason = str(error).partition(". ")[0]
        raise ValueError(
            f"tpu={address!r}: no TPU answers. On a TPU machine, TensorFlow "
            f"must be the package tensorflow-tpu. ({reason})"
        ) from error
