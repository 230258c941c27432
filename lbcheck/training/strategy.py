"""tf.distribute strategies by name."""

import json
import os

import tensorflow as tf


def workers() -> int:
    """Number of workers that TF_CONFIG names, the chief included; 1 without.

    Raises:
        ValueError: TF_CONFIG is not JSON.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
    except (AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"TF_CONFIG is not a JSON object ({error}): {text!r}"
        ) from error
    return max(1, sum(len(cluster.get(job, ())) for job in ("chief", "worker")))


def make(distribution: str, tpu: str | None = None):
    """The strategy for a name of `options.DISTRIBUTIONS`.

    Args:
        distribution: "auto" decides by `tpu`, TF_CONFIG and the GPUs;
            "mirrored" takes all GPUs, or all logical CPUs without GPU.
        tpu: Name or address of a TPU; "local" (or None) on its machine.

    Raises:
        ValueError: A TPU is named for another distribution or not there, or
            several workers are asked for without TF_CONFIG.
    """
    if distribution == "auto":
        distribution = _decide(tpu)
    if tpu is not None and distribution != "tpu":
        raise ValueError(
            f"tpu={tpu!r} is given, but distribution={distribution!r}."
        )
    if distribution == "tpu":
        return _tpu(tpu or "local")
    if distribution == "multi_worker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "distribution='multi_worker' needs the environment variable "
                'TF_CONFIG, for instance {"cluster": {"worker": '
                '["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
                '"index": 0}}.'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
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
    if workers() > 1:
        return "multi_worker"
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


def _tpu(address):
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
