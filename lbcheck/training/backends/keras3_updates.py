"""A pass through a Keras 3 model that leaves its weights as they are.

It is Keras's own `train_step` with a `Collector` in the optimizer's place.
Random numbers need nothing: layers count their draws in variables of the
model, which makes them a function of seed, step and microbatch.
"""


class Collector:
    """Keeps the gradients that an optimizer would apply.

    Args:
        optimizer: What it stands for; all else is asked of it.
    """

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.gradients = ()

    def __getattr__(self, name):
        return getattr(self._optimizer, name)

    def apply_gradients(self, grads_and_vars):
        """Keeps them, on TensorFlow."""
        self.gradients = [gradient for gradient, _ in grads_and_vars]

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """Keeps them, on JAX."""
        self.gradients = grads
        return trainable_variables, optimizer_variables


def train_step(model, *arguments):
    """`model.train_step(*arguments)` without its update.

    Returns:
        The gradients, of the loss as the optimizer scaled it, and what
        `train_step` returned.
    """
    optimizer = model.optimizer
    model.optimizer = collector = Collector(optimizer)
    try:
        result = model.train_step(*arguments)
    finally:
        model.optimizer = optimizer
    return collector.gradients, result
