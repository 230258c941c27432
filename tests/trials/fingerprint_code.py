"""A user's class for tests/trials/fingerprint_test.py; needs no framework."""

NAMES = {"bias", "gamma", "beta"}


def excluded(name):
    return name in {"bias", "gamma", "beta"} or name in NAMES


class Optimizer:
    rate = 0.1

    def step(self, variables):
        return [v for v in variables if not excluded(v)]
