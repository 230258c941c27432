"""What a build decides for a seed, kept for the last one."""

from lbcheck.trials import user_model as models


class Initial:
    """Initial values by seed.

    They come from building the model anew, so that they are what the user
    would have got with that seed; all arms share them.

    Args:
        workload: `Workload`.
        read: Function of a model that gives its values.
    """

    def __init__(self, workload, read):
        self._workload = workload
        self._read = read
        self._key = self._values = None

    def of(self, arguments, feed, seed):
        """What `read` gives of the model built with this seed.

        Args:
            arguments: Hyperparameters for build_model.
            feed: Training data.
            seed: At least 0.
        """
        key = seed, tuple(arguments.items())
        if key != self._key:
            model = models.build(
                self._workload, arguments, seed, feed.example()
            )
            self._values = self._read(model)
            self._key = key
        return self._values
