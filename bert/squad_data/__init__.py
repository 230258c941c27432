"""SQuAD without TensorFlow: questions, windows, answers, scores.

    dataset = squad_data.read("dev-v1.1.json.gz")
    features = squad_data.features(dataset, tokenizer)
    ...a model gives two logits for each token of each window...
    decoded = squad_data.decode(dataset, features, start_logits, end_logits)
    scores = squad_data.evaluate(dataset, decoded.predictions)

`reading` reads and checks files, `windows` lays questions and contexts out as
the model sees them, `decoding` finds answers in logits and gives them in the
context's own characters, `evaluation` is the official metric.
"""

from bert.squad_data.decoding import Decoded
from bert.squad_data.decoding import decode
from bert.squad_data.evaluation import evaluate
from bert.squad_data.reading import Answer
from bert.squad_data.reading import Dataset
from bert.squad_data.reading import Question
from bert.squad_data.reading import read
from bert.squad_data.reading import read_predictions
from bert.squad_data.windows import Features
from bert.squad_data.windows import features

__all__ = [
    "Answer",
    "Dataset",
    "Decoded",
    "Features",
    "Question",
    "decode",
    "evaluate",
    "features",
    "read",
    "read_predictions",
]
