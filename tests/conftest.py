"""The order of the test files: those of minutes first.

Otherwise one of two processes ends with such a file while the other waits.
"""

_FIRST = (
    "training_test.py",
    "trainer_test.py",
    "distribution_test.py",
    "compare_test.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _FIRST)
