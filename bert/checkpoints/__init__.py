"""Checkpoints of BERT: Google's, Model Garden's, Hugging Face's, and ours.

    loaded = load_initial(model, "uncased_L-24_H-1024_A-16")
    print(loaded)

What a file holds is named as in Google's checkpoints (see variables.py),
whatever wrote it. Importing this package imports no framework.
"""

from bert.checkpoints.loading import Loaded
from bert.checkpoints.loading import load_initial
from bert.checkpoints.reading import Checkpoint
from bert.checkpoints.reading import check_vocabulary
from bert.checkpoints.reading import read
from bert.checkpoints.writing import FORMATS
from bert.checkpoints.writing import write

__all__ = [
    "FORMATS",
    "Checkpoint",
    "Loaded",
    "check_vocabulary",
    "load_initial",
    "read",
    "write",
]
