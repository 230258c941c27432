"""Clipping of each replica's gradient, as BERT's original code does."""

import tensorflow as tf


def per_replica(optimizer):
    """Clips to the optimizer's global norm before the replicas are averaged.

        g = mean_r(g_r min(1, norm / |g_r|))    instead of
        g = m min(1, norm / |m|), m = mean_r(g_r)

    On one replica both are the same.

    Args:
        optimizer: A new optimizer of `lbcheck.tf_keras`, with
            `global_clipnorm`; it is changed.

    Returns:
        The same optimizer.

    Example: `per_replica(AdamW(1e-4, global_clipnorm=1.0))`

    Source: google-research/bert, optimization.py, create_optimizer: on TPUs
    clip_by_global_norm comes before CrossShardOptimizer's averaging.
    """
    norm, optimizer.global_clipnorm = optimizer.global_clipnorm, None
    aggregate = optimizer.aggregate_gradients

    def clipped(grads_and_vars):
        gradients, variables = zip(*grads_and_vars)
        # The loss was divided by the replicas, whose gradients are summed.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = [
            tf.convert_to_tensor(g) if g is not None else None
            for g in gradients
        ]
        gradients, _ = tf.clip_by_global_norm(gradients, norm / replicas)
        return aggregate(list(zip(gradients, variables)))

    optimizer.aggregate_gradients = clipped
    return optimizer
