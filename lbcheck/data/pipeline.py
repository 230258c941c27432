"""What every tf.data pipeline here has in common."""

import os


def untuned(dataset):
    """The dataset, with parallel calls for all cores instead of tuned ones.

    Tuning (`AUTOTUNE`) is a thread of TensorFlow that looks again at ever
    longer intervals. When the iterator is dropped it is woken before it can
    see that it is cancelled; on busy cores it then mostly sleeps on, and who
    drops the iterator, such as the end of `fit`, waits for it: for as long
    again as the iterator has lived, and for a minute at most.

    Args:
        dataset: A tf.data.Dataset.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.autotune.initial_parallelism = os.cpu_count()
    return dataset.with_options(options)
