"""The windows of questions as a source of `lbcheck.training`."""

import numpy as np

from lbcheck.data import shuffled_order


class Source:
    """Windows with answers, in the order of `lbcheck.data.shuffled_order`.

    There is no validation: what fine-tuning is judged by, the official
    metric, is of answers and not of windows.

    Args:
        features: `bert.squad_data.Features`, made for training.
        seed: Seed of the order, at least 0.
    """

    parts = ()

    def __init__(self, features, seed: int):
        self.num_train = len(features)
        self._features = features
        self._seed = seed

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        """An endless tf.data.Dataset of (inputs, (start, end) positions)."""
        import tensorflow as tf

        length = self._features.max_seq_length
        names = ("input_word_ids", "input_mask", "input_type_ids")
        spec = tf.TensorSpec((batch_size, length), tf.int32)
        return tf.data.Dataset.from_generator(
            lambda: self._batches(batch_size, start, shard, num_shards),
            output_signature=(
                {name: spec for name in names},
                tf.TensorSpec((batch_size, 2), tf.int32),
            ),
        )

    def _batches(self, batch_size, block, shard, num_shards):
        order = shuffled_order.Epochs(self.num_train, self._seed)
        while True:
            first = (block * num_shards + shard) * batch_size
            chosen = order.examples(first, batch_size)
            yield (
                self._features.inputs(chosen),
                positions(self._features, chosen),
            )
            block += 1


def positions(features, windows) -> np.ndarray:
    """Labels of some windows: start and end, int32 (windows, 2)."""
    ends = features.start_positions[windows], features.end_positions[windows]
    return np.stack(ends, axis=1).astype(np.int32)
