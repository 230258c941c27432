"""The scripts import each other by name, as `python benchmarks/x.py` does."""

import pathlib
import sys

# At the end: no script stands in the way of a library.
sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
