"""Peak memory of training with microbatches, as the batch grows.

    python benchmarks/accumulation_memory.py

Trains ResNet-18 at 64 pixels, ghost batch 64, microbatch 64, two updates at
each batch size, every batch size in a process of its own, and prints the peak
of its resident memory and the ratio to the smallest batch.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile

import common
import numpy as np
from absl import flags

_BATCHES = flags.DEFINE_list("batch_sizes", ["512", "8192"], "Batch sizes.")
_MICROBATCH = flags.DEFINE_integer("microbatch_size", 64, "Microbatch.")
_ONE = flags.DEFINE_integer("one", None, "Measure this batch size only.")


class Source:
    """Random images of 64 pixels, made as they are asked for."""

    image_shape = (64, 64, 3)
    num_train = 1_000_000
    num_validation = 64

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        while True:
            yield self._batch(batch_size, start)
            start += 1

    def validation(self, batch_size, shard=0, num_shards=1):
        images, labels = self._batch(batch_size, 0)
        yield images, labels, np.ones(batch_size, np.float32)

    def _batch(self, size, seed):
        generator = np.random.default_rng(seed)
        images = generator.normal(size=(size, *self.image_shape))
        return images.astype(np.float32), generator.integers(
            0, 1000, size, dtype=np.int32
        )


def build(keras, optimizers):
    from lbcheck import training
    from resnet import losses
    from resnet import models

    model = models.build(
        "resnet18", keras, image_shape=(64, 64, 3), num_classes=1000
    )
    return training.Workload(
        model, optimizers.LARS(1.0), losses.cross_entropy(keras), []
    )


def measure(batch_size):
    """Peak of this process in MB."""
    from lbcheck import training

    with tempfile.TemporaryDirectory() as folder:
        training.run(
            training.Options(
                output_dir=os.path.join(folder, "run"),
                batch_size=batch_size,
                microbatch_size=_MICROBATCH.value,
                total_steps=2,
                log_every=1,
                progress=False,
            ),
            build,
            Source(),
            "",
            {},
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv):
    if _ONE.value:
        print(json.dumps(measure(_ONE.value)))
        return
    peaks = {}
    for batch_size in _BATCHES.value:
        output = subprocess.run(
            [sys.executable, argv[0], f"--one={batch_size}"]
            + [f"--microbatch_size={_MICROBATCH.value}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        peaks[batch_size] = json.loads(output.splitlines()[-1])
        ratio = peaks[batch_size] / next(iter(peaks.values()))
        print(
            f"batch {batch_size:>6}: {peaks[batch_size]:6.0f} MB  {ratio:.3f}"
        )
    first, *_, last = peaks
    common.tell(
        f"peak memory with microbatches of {_MICROBATCH.value}, batch {last}",
        peaks[last],
        "MB",
        peaks[first],
        f"batch {first}",
    )


if __name__ == "__main__":
    common.start(main, batch_sizes=["64", "128"])
