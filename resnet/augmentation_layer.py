"""DavidNet's augmentation as a Keras 3 layer, for data that stay on a device.

`resnet.data.augmentation` has it in NumPy, for streams, with draws of its own.
"""

import functools

from resnet.data import augmentation


def crops(xp, images, tops, lefts, flips, cut_tops, cut_lefts):
    """What `resnet.data.augmentation.davidnet` does, for draws that are given.

    Args:
        xp: numpy or keras.ops.
        images: (batch, height, width, channels), standardised.
        tops: int32 (batch,), below the first of `augmentation.limits`, as
            the others are below theirs: first row of the padded image.
        lefts: First column of it.
        flips: 1 where the image is flipped.
        cut_tops: First row of the cutout.
        cut_lefts: First column of it.

    Returns:
        Images of the same shape.
    """
    height, width = images.shape[1:3]
    y, x = xp.arange(height)[None], xp.arange(width)[None]
    flipped = xp.where(flips[:, None] > 0, width - 1 - x, x)
    rows = _reflected(xp, tops[:, None] + y - augmentation.PAD, height)
    columns = lefts[:, None] + flipped - augmentation.PAD
    columns = _reflected(xp, columns, width)
    images = xp.take_along_axis(images, rows[:, :, None, None], 1)
    images = xp.take_along_axis(images, columns[:, None, :, None], 2)
    from_top, from_left = y - cut_tops[:, None], x - cut_lefts[:, None]
    high = (from_top >= 0) & (from_top < augmentation.CUTOUT)
    wide = (from_left >= 0) & (from_left < augmentation.CUTOUT)
    cut = (high[:, :, None] & wide[:, None, :])[..., None]
    return xp.where(cut, xp.zeros_like(images), images)


def _reflected(xp, places, length):
    """Places before and behind 0..length-1, reflected at either end."""
    last = length - 1
    return last - xp.abs(last - xp.abs(places))


@functools.cache
def of(keras):
    """The layer, of the module `keras`; registered there.

    Raises:
        ValueError: For tf_keras.
    """
    if not hasattr(keras, "ops"):
        raise ValueError(
            "Augmentation inside of the model needs keras='keras3'; with "
            "tf_keras, resnet.train augments its stream (--augment)."
        )
    ops, random = keras.ops, keras.random

    @keras.saving.register_keras_serializable(package="resnet")
    class DavidNetAugmentation(keras.layers.Layer):
        """See `crops`; outside of training, the images as they are.

        Args:
            seed: Of the draws, a whole number of at least 0.
        """

        def __init__(self, seed=0, **kwargs):
            super().__init__(**kwargs)
            self.seed = seed
            self._generator = random.SeedGenerator(seed)

        def call(self, images, training=None):
            if not training:
                return images
            count, height, width = ops.shape(images)[:3]
            draws = [
                random.randint((count,), 0, limit, seed=self._generator)
                for limit in augmentation.limits(height, width)
            ]
            return crops(ops, images, *draws)

        def get_config(self):
            return {**super().get_config(), "seed": self.seed}

    return DavidNetAugmentation
