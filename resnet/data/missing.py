"""Data that are not there: what a dry run can still say."""

from typing import NamedTuple


class Missing(ValueError):
    """There are no files where the data should be; the message says which."""


class Published(NamedTuple):
    """A data set as it is published, in place of a source.

    Attributes:
        num_train: Training images.
        image_shape: Height, width, channels.
        num_classes: Number of labels.
        problem: Why there is no source.
    """

    num_train: int
    image_shape: tuple[int, int, int]
    num_classes: int
    problem: str

    @property
    def assumed(self) -> tuple[str, ...]:
        """What is taken instead."""
        return (f"the {self.num_train:,} training images as published.",)

    def check(self) -> list[str]:
        """What is missing, and what is assumed instead."""
        return [
            f"missing: {self.problem}",
            *(f"Assumed below: {text}" for text in self.assumed),
        ]


def published(name: str, image_size: int, problem: str) -> Published:
    """The data set of that name; `image_size` is ImageNet's."""
    found = {
        "mnist": (60_000, (28, 28, 1), 10),
        "cifar10": (50_000, (32, 32, 3), 10),
        "imagenet": (1_281_167, (image_size, image_size, 3), 1000),
    }
    return Published(*found[name], problem)
