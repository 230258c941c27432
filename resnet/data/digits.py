"""Scikit-learn's handwritten digits: 1,797 images of 8x8, no file needed."""

from resnet.data import arrays

_VALIDATION = 360


def source(seed, augment=None):
    """1,437 training and 360 validation images, the same split always."""
    try:
        from sklearn import datasets
        from sklearn import model_selection
    except ImportError as error:
        raise ValueError(
            "digits needs the package scikit-learn: pip install scikit-learn"
        ) from error
    digits = datasets.load_digits()
    images = digits.images.astype("uint8")[..., None]
    train, validation, train_labels, validation_labels = (
        model_selection.train_test_split(
            images,
            digits.target,
            test_size=_VALIDATION,
            random_state=0,
            stratify=digits.target,
        )
    )
    origin = "scikit-learn"
    return arrays.ArraySource(
        "digits",
        arrays.Split(train, train_labels, origin),
        arrays.Split(validation, validation_labels, origin),
        num_classes=10,
        seed=seed,
        augment=augment or "none",
    )
