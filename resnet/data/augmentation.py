"""Augmentation of image arrays, in NumPy.

Each takes (images, seed, position): float32 standardised images of which the
first stands at `position` of the training stream, and draws for the image at
stream position p from (seed, p) alone.
"""

import numpy as np

PAD = 4
CUTOUT = 8
SMALLEST = 16  # Side of an image of which the cutout leaves enough.
_STREAM = 1  # Keeps these draws apart from others of the same seed.


def _uniform(seed, position, count, limits):
    """Integers (count, len(limits)) below limits, a row a stream position.

    Philox is a function of a counter: block p of four 64-bit words is drawn
    for position p.
    """
    words = np.random.Philox(
        key=np.random.SeedSequence([seed, _STREAM]).generate_state(2, "u8"),
        counter=position,
    ).random_raw(4 * count)
    draws = words.view(np.uint32).reshape(count, 8)[:, : len(limits)]
    return ((draws.astype(np.uint64) * np.uint64(limits)) >> 32).astype(int)


def limits(height, width):
    """What the five draws of an image of `davidnet` are below.

    Top and left of the crop, whether it is flipped, top and left of the cutout.
    """
    crop = 2 * PAD + 1
    return crop, crop, 2, height - CUTOUT + 1, width - CUTOUT + 1


def davidnet(images, seed, position):
    """Pad 4 by reflection, random crop, horizontal flip, 8x8 cutout to 0.

    Args:
        images: float32 (batch, height, width, channels), standardised: the
            cutout's 0 is the mean colour.
        seed: Seed of the run.
        position: Position of the first image in the stream.

    Returns:
        New images of the same shape.

    Source: David Page, "How to train your ResNet" (Myrtle, 2018), DAWNBench.
    """
    count, height, width = images.shape[:3]
    tops, lefts, flips, cut_tops, cut_lefts = _uniform(
        seed, position, count, limits(height, width)
    ).T
    padding = ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0))
    padded = np.pad(images, padding, "reflect")
    result = np.empty_like(images)
    for index, (top, left, flip, cut_top, cut_left) in enumerate(
        zip(tops, lefts, flips, cut_tops, cut_lefts)
    ):
        crop = padded[index, top : top + height, left : left + width]
        result[index] = crop[:, ::-1] if flip else crop
        result[
            index,
            cut_top : cut_top + CUTOUT,
            cut_left : cut_left + CUTOUT,
        ] = 0
    return result


NAMES = {"none": None, "davidnet": davidnet}
