"""SQuAD's data: files, windows, answers from logits, the official metric."""

import bz2
import collections
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from official.nlp.data import squad_lib
from official.nlp.tools import squad_evaluate_v1_1
from official.nlp.tools import squad_evaluate_v2_0
from official.nlp.tools import tokenization as reference_tokenization

from bert import squad_data
from bert import squad_diagnostics
from bert import tokenization
from bert.squad_data import decoding
from bert.squad_data import evaluation
from tests import damage

ROOT = pathlib.Path(__file__).parents[2]
DATA = os.environ.get("LBCHECK_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LBCHECK_DATA is not set")
SUBMISSIONS = [
    "bert-ensemble-google-ai-language",
    "logistic-regression-baseline-stanford-university",
    "r-net-ensemble-microsoft-research-asia",
]


def shared(*parts):
    return str(pathlib.Path(DATA, *parts))


def load(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def write(path, paragraphs, **other):
    """A file of one article."""
    content = {"data": [{"title": "t", "paragraphs": paragraphs}], **other}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def entry(name, text="Who?", answers=(("Ann", 0),), **other):
    answers = [{"text": t, "answer_start": start} for t, start in answers]
    return {"id": name, "question": text, "answers": answers, **other}


# Files.


def test_a_file_is_what_it_says(tmp_path):
    paragraphs = [
        {"context": "Ann met Bo. ", "qas": [entry("1"), entry("2", "Whom?")]},
        {"context": "文 Café", "qas": [entry("3", "", [("Café", 2)] * 3)]},
    ]
    path = write(tmp_path / "a.json", paragraphs, version="1.1")
    dataset = squad_data.read(path)
    assert dataset.contexts == ["Ann met Bo. ", "文 Café"]
    assert dataset.questions[1] == ("2", "Whom?", 0, (("Ann", 0),), False)
    assert dataset.questions[2].context == 1
    assert dataset.questions[2].answers == (("Café", 2),) * 3
    assert dataset.problems == []
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + open(path, "rb").read()))
    assert squad_data.read(str(packed)) == dataset._replace(origin=str(packed))


def test_version_2(tmp_path):
    context = {
        "context": "Ann.",
        "qas": [
            entry("1", is_impossible=False),
            entry("2", answers=[], is_impossible=True),
            entry("3", answers=[]),
        ],
    }
    path = write(tmp_path / "a.json", [context], version="v2.0")
    dataset = squad_data.read(path, True, answered=True)
    assert [q.impossible for q in dataset.questions] == [False, True, True]
    with pytest.raises(ValueError, match="an impossible question, as in v2.0"):
        squad_data.read(path)
    path = write(tmp_path / "a.json", [context])
    message = r"a.json: data\[0\].paragraphs\[0\].qas\[1\]: an impossible quest"
    with pytest.raises(ValueError, match=message):
        squad_data.read(path)
    context["qas"].pop(1)
    path = write(tmp_path / "a.json", [context])
    message = r"qas\[1\]: no answers, which only --mode=predict does without"
    with pytest.raises(ValueError, match=message):
        squad_data.read(path, answered=True)
    context["qas"][1]["is_impossible"] = False
    path = write(tmp_path / "a.json", [context])
    with pytest.raises(ValueError, match=message):
        squad_data.read(path, True, answered=True)
    context["qas"][1] = entry("2", is_impossible=True)
    path = write(tmp_path / "a.json", [context])
    message = r"qas\[1\]: 1 answers to a question that is impossible"
    with pytest.raises(ValueError, match=message):
        squad_data.read(path, True, answered=True)


def test_answers_that_are_elsewhere_are_counted(tmp_path):
    answers = [
        [("Bo", 8)],
        [("Bo", 9)],
        [("Ann", -12)],
        [("An", 99)],
        [("", 3)],
    ]
    qas = [entry(f"q{i}", "?", found) for i, found in enumerate(answers)]
    path = write(tmp_path / "a", [{"context": "Ann met Bo. ", "qas": qas}])
    dataset = squad_data.read(path)
    assert len(dataset.problems) == 4
    assert dataset.problems[0] == (
        f"{path}: data[0].paragraphs[0].qas[1] ('q1'): the answer 'Bo' is not "
        "at 9, there is 'o.'."
    )
    assert len(dataset.questions) == 5
    with pytest.raises(ValueError, match="4 answers do not stand.*'o.'"):
        squad_data.read(path, strict=True)


@pytest.mark.parametrize("asked", [{}, {"answers": []}, {"answers": None}])
def test_own_questions_need_no_answers(tmp_path, asked):
    """Of users' files: ids are numbers, and nothing else is there."""
    qas = [{"id": n, "question": f"{n}?", **asked} for n in (7, 8.0, 2**60)]
    path = write(tmp_path / "own.json", [{"context": "水車は", "qas": qas}])
    dataset = squad_data.read(path)
    assert [q.id for q in dataset.questions] == ["7", "8", str(2**60)]
    assert not any(q.answers or q.impossible for q in dataset.questions)
    assert not any(q.impossible for q in squad_data.read(path, True).questions)
    with pytest.raises(ValueError, match=r"own.*qas\[0\]: no answers, which"):
        squad_data.read(path, answered=True)
    dataset = squad_data.read(path, True, answered=True)
    assert all(q.impossible for q in dataset.questions)


def test_questions_with_their_contexts(tmp_path):
    """Layouts of Hugging Face's datasets, each the same questions."""
    contexts = ["Bo met Ann.", "Cy ran."]
    rows = [
        {"id": n, "question": "Who?", "context": contexts[n // 2], "title": "t"}
        for n in range(3)
    ]
    for row, answer in zip(rows, ["Ann", "Bo", "Cy"]):
        start = row["context"].index(answer)
        row["answers"] = {"text": [answer], "answer_start": [float(start)]}
    nested = [
        {
            "context": context,
            "qas": [r for r in rows if r["context"] == context],
        }
        for context in contexts
    ]
    path = write(tmp_path / "nested.json", nested)
    expected = squad_data.read(path)
    assert [q.context for q in expected.questions] == [0, 0, 1]
    assert [q.answers[0].start for q in expected.questions] == [7, 0, 0]
    lines = "\r\n".join(map(json.dumps, rows)).encode() + b"\n\n"
    for content in (
        b"\xef\xbb\xbf" + json.dumps({"data": rows}, indent=1).encode(),
        json.dumps(rows).encode(),
        lines,
        b"\n \r\n" + lines,
        bz2.compress(lines),
    ):
        flat = tmp_path / "flat"
        flat.write_bytes(content)
        assert squad_data.read(str(flat)) == expected._replace(origin=str(flat))
    flat.write_text(json.dumps(rows[0]))
    assert len(squad_data.read(str(flat)).questions) == 1
    for before, line in ((b"", 5), (b"\n\n", 7)):
        flat.write_bytes(before + lines + b'{"id": 9, "question": "x"}\n')
        with pytest.raises(ValueError, match=f"flat:{line}: .*`context`"):
            squad_data.read(str(flat))
    rows[1]["answers"]["text"] *= 2
    flat.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"flat: \[1\].*2 texts and 1 answer"):
        squad_data.read(str(flat))
    rows[1]["answers"] = "Bo"
    flat.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"flat: \[1\].answers: expected"):
        squad_data.read(str(flat))


PLACE = r"bad.json: data\[0\].paragraphs\[0\]"
MISSING = object()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", MISSING, r"bad.json: expected SQuAD's .* received \[{}\]"),
        ("paragraphs", MISSING, "bad.json: expected SQuAD's .*'paragraphs'"),
        ("context", MISSING, PLACE + ".*missing required field `context`"),
        ("qas", MISSING, PLACE + ".*missing required field `qas`"),
        ("id", MISSING, PLACE + r".qas\[0\]: .*missing required field `id`"),
        ("question", MISSING, PLACE + r".qas\[0\]: .*field `question`"),
        ("answers", MISSING, PLACE + r".qas\[0\]: no answers, which only"),
        ("text", MISSING, PLACE + r".qas\[0\].answers\[0\]: .*field `text`"),
        ("answer_start", MISSING, r"answers\[0\]: .*field `answer_start`"),
        ("data", [], "bad.json: no questions in it"),
        ("data", 3, "bad.json: expected SQuAD's .*received {'data': 3}"),
        ("data", ["x"], "bad.json: expected SQuAD's .*received {'data'"),
        ("context", " \n\t", PLACE + r".qas\[0\]: an empty context"),
        ("context", None, ".context: expected `str`, got `null`"),
        ("qas", {}, ".qas: expected `array`, got `object`"),
        ("id", None, ".id: expected `float | str`, got `null`"),
        ("id", "7", r"qas\[1\]: the id '7' is that of an earlier quest"),
        ("answer_start", "7", ".answer_start: expected `float`, got `str`"),
        ("answer_start", True, ".answer_start: expected `float`, got `bool`"),
        ("answer_start", 7.5, "must be a whole number, received 7.5"),
        ("answer_start", 1e305, ".answer_start: expected `float` <= 1e"),
        ("text", "Ann\udc9e", "half of a surrogate pair, after .*Ann'"),
        (
            "is_impossible",
            0,
            ".is_impossible: expected `bool | null`",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, key, value, message):
    question = entry("1", is_impossible=False)
    paragraph = {"context": "Ann.", "qas": [question, entry(7)]}
    article = {"title": "t", "paragraphs": [paragraph]}
    content = {"data": [article]}
    answer = question["answers"][0]
    for part in (content, article, paragraph, question, answer):
        if key in part:
            part[key] = value
            if value is MISSING:
                del part[key]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        squad_data.read(str(path), answered=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [\n{]', "bad: not JSON: .*line 2, column 2"),
        (b"", "bad: not JSON"),
        (b'{"data": "caf\xe9"}', "bad: not UTF-8"),
        (gzip.compress(b"{}" * 999, mtime=0)[:-9], "bad: damaged gzip"),
        (b"\x1f\x8bno gzip", "bad: damaged gzip"),
        (bz2.compress(b"{}" * 999)[:-9], "bad: damaged bzip2"),
        (b"[" * 10**6, "bad: nested too deep"),
        (b"[1]", "bad: expected "),
        ('{"a": 1}'.encode("utf-16"), "bad: is in UTF-16.*iconv"),
        (b"PAR1\0\0", "bad: is a Parquet table"),
        (gzip.compress(b" " * (2**28 + 1), 1), "bad: has more than 268,435"),
    ],
)
@pytest.mark.parametrize("read", [squad_data.read, squad_data.read_predictions])
def test_what_is_no_json_is_refused(tmp_path, content, message, read):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(str(path))


def test_predictions(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"a": "Ann", "b": ""}')
    assert squad_data.read_predictions(str(path)) == {"a": "Ann", "b": ""}
    path.write_text('{"a": "Ann", "b": null}')
    with pytest.raises(ValueError, match="p.json: the prediction for 'b' must"):
        squad_data.read_predictions(str(path))
    with pytest.raises(FileNotFoundError, match="none.json"):
        squad_data.read_predictions(str(tmp_path / "none.json"))


ROWS = [
    {
        "id": name,
        "question": "Who?",
        "context": "Ann met Bo.",
        "answers": {"text": ["Bo"], "answer_start": [8]},
    }
    for name in ("a", 2)
]
ARTICLES = {
    "version": "v2.0",
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Ann met Bo.",
                    "qas": [
                        entry("1", is_impossible=False),
                        entry("2", answers=[], is_impossible=True),
                    ],
                }
            ]
        }
    ],
}


@damage.EXAMPLES
@pytest.mark.parametrize(
    "damaged",
    [
        damage.damaged_json(ARTICLES),
        damage.damaged_bytes(json.dumps(ARTICLES).encode()),
        damage.damaged_json(ROWS),
        damage.damaged_lines(ROWS),
        damage.damaged_bytes(gzip.compress(json.dumps(ROWS).encode())),
    ],
    ids=["articles", "bytes", "rows", "lines", "gzip"],
)
def test_damaged_files(tmp_path, damaged, examples):
    def read(path):
        squad_data.read(str(path), version_2=True)

    damage.try_reader(read, tmp_path / "damaged", damaged, examples)


@damage.EXAMPLES
def test_damaged_predictions(tmp_path, examples):
    valid = {"a": "Ann", "b": ""}
    for damaged in (
        damage.damaged_json(valid),
        damage.damaged_bytes(json.dumps(valid).encode()),
    ):
        damage.try_reader(
            lambda path: squad_data.read_predictions(str(path)),
            tmp_path / "predictions.json",
            damaged,
            examples // 2,
        )


# Scores.


def assert_scores(articles, dataset, predictions, null_odds=None):
    """Ours are the reference's; returns them."""
    found = squad_data.evaluate(dataset, predictions, null_odds)
    if dataset.version_2:
        wanted = squad_evaluate_v2_0.evaluate(articles, predictions, null_odds)
        wanted["exact_match"] = wanted.pop("exact")
        assert wanted.pop("total") == found["questions"] - found["missing"]
        renamed = {
            name.replace("final", "best"): value
            for name, value in wanted.items()
        }
        assert set(found) - set(renamed) == {"questions", "missing", "unknown"}
    else:
        wanted = squad_evaluate_v1_1.evaluate(articles, predictions)
        renamed = {
            "exact_match": 100 * wanted["exact_match"],
            "f1": 100 * wanted["final_f1"],
        }
    for name, value in renamed.items():
        assert found[name] == pytest.approx(value, rel=0, abs=1e-9), name
    return found


@needs_data
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_scores_of_real_submissions(name):
    dataset = squad_data.read(shared("squad", "dev-v1.1.json.gz"))
    articles = load(dataset.origin)["data"]
    path = shared("squad", "predictions", f"{name}.json.gz")
    predictions = squad_data.read_predictions(path)
    found = assert_scores(articles, dataset, predictions)
    with open(shared("squad", "predictions", "expected_scores.json")) as file:
        expected = json.load(file)[name]
    assert found["questions"] == expected["questions"]
    assert found["missing"] == expected["unanswered"]
    for key in ("exact_match", "f1"):
        assert found[key] == pytest.approx(expected[key], rel=0, abs=1e-9)


@needs_data
@pytest.mark.parametrize("odds", [False, True])
def test_scores_of_version_2(tmp_path, odds):
    """A third of the questions made impossible, some of them answered."""
    articles = load(shared("squad", "dev-v1.1.json.gz"))["data"]
    path = shared("squad", "predictions", f"{SUBMISSIONS[1]}.json.gz")
    predictions = squad_data.read_predictions(path)
    choices = random.Random(0)
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                if choices.random() < 1 / 3:
                    question["answers"] = []
                question["is_impossible"] = not question["answers"]
                if choices.random() < 1 / 2 and question["id"] in predictions:
                    predictions[question["id"]] = ""
    (tmp_path / "v2").write_text(json.dumps({"data": articles}))
    dataset = squad_data.read(str(tmp_path / "v2"), version_2=True)
    known = {question.id for question in dataset.questions}
    predictions = {n: x for n, x in predictions.items() if n in known}
    # With ties, and on both sides of the threshold.
    null_odds = {
        name: round(choices.gauss(1, 3) * (2 if text else 1), 1)
        for name, text in predictions.items()
    }
    choices.shuffle(order := list(null_odds))
    null_odds = {name: null_odds[name] for name in order}
    found = assert_scores(
        articles, dataset, predictions, null_odds if odds else None
    )
    assert found["missing"] == 13
    assert 0 < found["NoAns_exact"] < 100
    assert found["best_exact"] > found["exact_match"]
    assert (found["best_f1_thresh"] != 0) == odds


_WORDS = strategies.sampled_from(
    ["the", "a", "An", "THE", "cat", "Cat.", "cat's", "(1895-", "—", "l’a", "é"]
    + ["", " ", "\u00a0", "İ", "Σ", "ς", "$5", "!", "a.", "the-cat", "文", "'"]
)
_TEXTS = strategies.lists(_WORDS, max_size=5).map(" ".join)


@pytest.mark.parametrize("version_2", [False, True])
@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(data=strategies.data())
def test_scores_of_any_answers(version_2, data):
    rows = data.draw(
        strategies.lists(
            strategies.tuples(
                strategies.lists(_TEXTS, min_size=not version_2, max_size=3),
                strategies.none() | _TEXTS,
                strategies.integers(-2, 3),
            ),
            min_size=1,
            max_size=5,
        )
    )
    rows[0] = (rows[0][0], rows[0][1] or "cat", rows[0][2])
    questions = [
        squad_data.Question(
            str(i),
            "?",
            0,
            tuple(squad_data.Answer(text, 0) for text in golds),
            not golds,
        )
        for i, (golds, _, _) in enumerate(rows)
    ]
    dataset = squad_data.Dataset("a", version_2, ["c"], questions, [])
    qas = [
        {"id": str(i), "answers": [{"text": text} for text in golds]}
        for i, (golds, _, _) in enumerate(rows)
    ]
    predictions = {
        str(i): text for i, (_, text, _) in enumerate(rows) if text is not None
    }
    odds = {str(i): float(x) for i, (_, text, x) in enumerate(rows)}
    odds = {name: odds[name] for name in predictions}
    articles = [{"paragraphs": [{"qas": qas}]}]
    assert_scores(articles, dataset, predictions, odds if version_2 else None)


def one_dataset(answers, version_2=False):
    questions = [
        squad_data.Question(
            str(i), "?", 0, tuple(squad_data.Answer(t, 0) for t in found)
        )
        for i, found in enumerate(answers)
    ]
    return squad_data.Dataset("a.json", version_2, ["c"], questions, [])


def test_a_score_by_hand():
    """2 of 3 tokens right and all of 2: F1 = 2 * 2/3 / (2/3 + 1) = 0.8."""
    dataset = one_dataset([["the big cat", "a dog"], ["x"], ["y"]])
    found = squad_data.evaluate(
        dataset, {"0": "Big, black cat!", "1": "X.", "9": "z"}
    )
    assert found["exact_match"] == pytest.approx(100 / 3)
    assert found["f1"] == pytest.approx(100 * (0.8 + 1) / 3)
    assert (found["questions"], found["missing"], found["unknown"]) == (3, 1, 1)
    with pytest.raises(
        ValueError, match="none of its 3 questions is among the"
    ):
        squad_data.evaluate(dataset, {"9": "z"})
    with pytest.raises(ValueError, match="no null odds for 1 of 2.*first '1'"):
        squad_data.evaluate(
            dataset._replace(version_2=True), {"0": "", "1": ""}, {"0": 1.0}
        )


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_ARTICLES", evaluation.re.compile(r"(a|an|the)")),
        ("_ARTICLES", evaluation.re.compile(r"\b(a|an)\b")),
        ("_PUNCTUATION", str.maketrans("", "", ".,;:!?")),
        ("_f1", lambda ours, gold: len(set(ours) & set(gold)) / len(gold)),
    ],
)
def test_mutants_of_the_score_are_found(monkeypatch, name, mutant):
    monkeypatch.setattr(evaluation, name, mutant)
    texts = ["theatre", "the man's cat", "Bo (1895-1943)", "b b c"]
    dataset = one_dataset([[text] for text in texts])
    given = ["atre", "man's cat", "18951943 bo x", "b c c d"]
    predictions = {str(i): text for i, text in enumerate(given)}
    articles = [
        {
            "paragraphs": [
                {
                    "qas": [
                        {"id": str(i), "answers": [{"text": text}]}
                        for i, text in enumerate(texts)
                    ]
                }
            ]
        }
    ]
    with pytest.raises(AssertionError):
        assert_scores(articles, dataset, predictions)


# Windows.

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghiklmnoprstuvxyz0123456789σις文字"
ODD_WORDS = [
    *(
        "Café",
        "cafe\u0301",
        "naïve",
        "文字",
        "Tōkyō",
        "(1895-1943).",
        "$10million",
    ),
    *("don't", "a\u00a0b", "a\u2009b", "\u200bzero", "x\u00adray", "ﬁne", "İs"),
    *(
        "ΣΊΣΥΦΟΣ",
        "Grüße",
        "한국",
        "😀",
        "no-go",
        "e\u0301\u0323s",
        "\u0301",
        "a" * 401,
    ),
    *(
        "the",
        "cat",
        "sat",
        "on",
        "mats",
        "and",
        "ran",
        "to",
        "Japanese",
        "2,700",
    ),
]
ODD_SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u202f", " \u00a0 "]


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    """Letters, and some words; neither w, q, j nor Korean is among them."""
    words = ["the", "cat", "sat", "##an", "to", "ca", "##fe", "189", "##5"]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    marks = list("().,$-'")
    tokens = [*SPECIAL, *words, *LETTERS, *(f"##{c}" for c in LETTERS), *marks]
    path.write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
    return str(path)


def odd_paragraphs(seed, count=12, words=60):
    """Contexts of odd words between odd spaces; answers are whole words."""
    choices = random.Random(seed)
    paragraphs = []
    for p in range(count):
        context, bounds = choices.choice(["", " "]), []
        for _ in range(choices.randint(1, words)):
            word = choices.choice(ODD_WORDS)
            if word != "\u0301":  # no token, so no end of an answer
                bounds.append((len(context), len(context) + len(word)))
            context += word + choices.choice(ODD_SPACES)
        qas = []
        for q in range(3 if bounds else 0):
            first = choices.randrange(len(bounds))
            last = min(first + choices.randrange(4), len(bounds) - 1)
            start, end = bounds[first][0], bounds[last][1]
            text = " ".join(choices.choices(ODD_WORDS[:-10] + ["who"], k=q))
            qas.append(entry(f"{p}-{q}", text, [(context[start:end], start)]))
        paragraphs.append({"context": context, "qas": qas})
    return paragraphs


def reference_features(path, vocab_file, *settings, training=True):
    """(examples, features) of Model Garden, each with one answer."""
    tokenizer = reference_tokenization.FullTokenizer(vocab_file)
    found = []
    with open(path) as file:
        content = json.load(file)
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                del question["answers"][1:]
    single = pathlib.Path(path).with_suffix(".single")
    single.write_text(json.dumps(content))
    examples = squad_lib.read_squad_examples(str(single), training, False)
    squad_lib.convert_examples_to_features(
        examples,
        tokenizer,
        *settings,
        training,
        lambda feature, is_padding=False: found.append(feature),
        batch_size=1,
    )
    return examples, found


def compare_windows(dataset, features, examples, found):
    """Asserts equal tokens; returns the windows whose spans differ.

    Questions that the reference leaves out are left out.
    """
    numbers = {q.id: i for i, q in enumerate(dataset.questions)}
    theirs = collections.defaultdict(list)
    for feature in found:
        name = examples[feature.example_index].qas_id
        theirs[numbers[name]].append(feature)
    rows = np.flatnonzero(np.isin(features.questions, list(theirs)))
    wanted = [
        feature for number in sorted(theirs) for feature in theirs[number]
    ]
    assert len(wanted) == len(rows)
    inputs = features.inputs(rows)
    for name, attribute in (
        ("input_word_ids", "input_ids"),
        ("input_mask", "input_mask"),
        ("input_type_ids", "segment_ids"),
    ):
        np.testing.assert_array_equal(
            inputs[name], [getattr(feature, attribute) for feature in wanted]
        )
    return [
        (row, feature)
        for row, feature in zip(rows, wanted)
        if (feature.start_position, feature.end_position)
        != (features.start_positions[row], features.end_positions[row])
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [(24, 5, 8), (64, 16, 12), (384, 128, 64)])
def test_windows_are_the_references(tmp_path, vocab_file, seed, settings):
    path = write(tmp_path / "a.json", odd_paragraphs(seed))
    dataset = squad_data.read(path)
    assert not dataset.problems
    examples, found = reference_features(path, vocab_file, *settings)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, *settings, training=True)
    assert not compare_windows(dataset, features, examples, found)
    # Where its answer has odd spaces the reference does not find it.
    kept = {example.qas_id for example in examples}
    for question in dataset.questions:
        if question.id not in kept:
            text = question.answers[0].text
            assert set(text) & set("\u00a0\u2009\u202f\t\r\n") or "  " in text
    assert len(kept) > 20


def spans(dataset, features):
    """(question, text of the span) of the windows that hold an answer."""
    rows = np.flatnonzero(features.start_positions)
    begins, ends = features.characters(
        rows, features.start_positions[rows], features.end_positions[rows]
    )
    for row, begin, end in zip(rows, begins, ends):
        question = dataset.questions[features.questions[row]]
        yield question, dataset.contexts[question.context][begin:end]


@pytest.mark.parametrize("seed", range(4))
def test_answers_come_back_in_their_own_characters(tmp_path, vocab_file, seed):
    path = write(tmp_path / "a.json", odd_paragraphs(seed))
    dataset = squad_data.read(path)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, training=True)
    count = 0
    for question, text in spans(dataset, features):
        # At its ends the answer may have what makes no token.
        assert text == question.answers[0].text.lstrip("\u200b")
        count += 1
    assert count > 20


def test_answers_between_tokens_and_twice_in_a_word(tmp_path, vocab_file):
    """Of `sat`, `sa` is the whole word; the second 1 of 1-1 is that one."""
    context = "a (sat-no) 1-1 cat"
    answers = [("sa", 3), ("1", 13), ("cat", 15), ("no", 7), ("at-no", 4)]
    qas = [entry(str(i), "", [found]) for i, found in enumerate(answers)]
    path = write(tmp_path / "a", [{"context": context, "qas": qas}])
    dataset = squad_data.read(path)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 64, 16, 8)
    assert [text for _, text in spans(dataset, features)] == [
        "(sat-no)",
        "1",
        "cat",
        "no",
        "(sat-no)",
    ]
    examples, found = reference_features(path, vocab_file, 64, 16, 8)
    (differing,) = compare_windows(dataset, features, examples, found)
    assert differing[0] == 1
    assert differing[1].start_position == features.start_positions[1] - 2


def reference_text(example, feature):
    """The answer that Model Garden makes of a window's span."""
    start, end = feature.start_position, feature.end_position
    pieces = " ".join(feature.tokens[start : end + 1])
    places = feature.token_to_orig_map
    words = example.doc_tokens[places[start] : places[end] + 1]
    return squad_lib.get_final_text(
        pieces.replace(" ##", "").replace("##", ""), " ".join(words), True
    )


def check_windows(tmp_path, name, not_recovered, better):
    """All windows and spans are the reference's, and answers are recovered.

    Args:
        tmp_path: Folder.
        name: Of the set.
        not_recovered: Answers that the span does not give, because they begin
            or end within a token.
        better: Answers that the reference does not find again in the text,
            though their span gives them.
    """
    path = str(tmp_path / "a.json")
    content = load(shared("squad", f"{name}.json.gz"))
    pathlib.Path(path).write_text(json.dumps(content))
    dataset = squad_data.read(path)
    vocab_file = shared("bert", "vocab.txt")
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, training=True)
    examples, found = reference_features(path, vocab_file, 384, 128, 64)
    assert len(examples) == len(dataset.questions)
    assert not compare_windows(dataset, features, examples, found)
    rows = np.flatnonzero(features.start_positions)
    differing, found_better = {}, set()
    for (question, text), row in zip(spans(dataset, features), rows):
        theirs = reference_text(examples[found[row].example_index], found[row])
        if " ".join(text.split()) != theirs:
            assert text == question.answers[0].text
            found_better.add(question.id)
        if text != question.answers[0].text:
            differing[question.id] = question
    assert len(found_better) == better
    assert len(differing) == not_recovered
    for question in differing.values():
        answer = question.answers[0]
        context = dataset.contexts[question.context]
        ids, bounds = tokenizer.ids_with_offsets(context)
        end = answer.start + len(answer.text)
        inside = [
            piece
            for piece, (a, b) in zip(ids, bounds)
            if answer.start < b and a < end
        ]
        assert tokenizer.ids(answer.text) != inside
    return features.diagnostics


@needs_data
def test_windows_of_xquad(tmp_path):
    """Its offsets are exact; one answer is "2,70" of 2,700 in the context."""
    found = check_windows(tmp_path, "xquad.en", not_recovered=1, better=0)
    assert found["without_answer_window"] == found["unusable_answers"] == 0


@needs_data
@pytest.mark.slow
def test_windows_of_the_dev_set(tmp_path):
    found = check_windows(tmp_path, "dev-v1.1", not_recovered=31, better=2)
    assert found["questions"] == 10_570
    assert found["windows"] == 10_833


# Answers from logits.

Raw = collections.namedtuple("Raw", "unique_id start_logits end_logits")


def reference_answers(dataset, features, vocab_file, logits, options, exact):
    """(predictions, nbest, null odds) of Model Garden.

    Args:
        dataset: Of version 1.1 or 2.0.
        features: Ours, of all questions.
        vocab_file: Of both tokenizers.
        logits: Start and end logits.
        options: n_best_size, max_answer_length, null_score_diff_threshold.
        exact: Texts are cut out of the context where the tokens stand, by
            their offsets; else they are found by Model Garden's comparison.
    """
    tokenizer = tokenization.Tokenizer(vocab_file)
    offsets = [tokenizer.ids_with_offsets(t)[1] for t in dataset.contexts]
    examples, found = reference_features(
        dataset.origin, vocab_file, *settings_of(features), training=False
    )
    assert len(found) == len(features)
    results = [
        Raw(feature.unique_id, *map(np.ndarray.tolist, rows))
        for feature, *rows in zip(found, *logits)
    ]

    def cut(pieces, *_):
        number, first = map(int, pieces.split()[0].split("/"))
        _, last = map(int, pieces.split()[-1].split("/"))
        bounds = offsets[number]
        return dataset.contexts[number][bounds[first][0] : bounds[last][1]]

    with pytest.MonkeyPatch.context() as patch:
        if exact:
            patch.setattr(squad_lib, "get_final_text", lambda *a, **_: cut(*a))
            for row, feature in enumerate(found):
                question = dataset.questions[feature.example_index]
                shift = features.windows.firsts[row]
                shift = shift - features.windows.places[row]
                feature.tokens = [
                    f"{question.context}/{position + shift}"
                    for position in range(len(feature.tokens))
                ]
        return squad_lib.postprocess_output(
            examples,
            found,
            results,
            options[0],
            options[1],
            True,
            version_2_with_negative=dataset.version_2,
            null_score_diff_threshold=options[2],
        )


def settings_of(features):
    stride = np.diff(features.windows.firsts)
    return features.max_seq_length, int(stride.max(initial=1)), 8


def some_logits(features, seed, step=None):
    """Noise, and a model's confidence at answers or, for every third question,
    in that there is none; rounded to get ties."""
    generator = np.random.default_rng(seed)
    shape = 2, len(features), features.max_seq_length
    logits = generator.normal(size=shape)
    rows = np.arange(len(features))
    for values, positions in zip(
        logits, (features.start_positions, features.end_positions)
    ):
        values[rows, positions] += generator.normal(3, 3, len(rows))
    logits[:, features.questions % 3 == 0, 0] += 7
    if step:
        logits = np.round(logits / step) * step
    return logits.astype(np.float32)


def assert_answers(ours, theirs):
    """All texts and numbers are the same."""
    predictions, nbest, null_odds = theirs
    assert ours.predictions == predictions
    assert list(ours.nbest) == list(nbest)
    for name, entries in nbest.items():
        assert len(ours.nbest[name]) == len(entries)
        for a, b in zip(ours.nbest[name], entries):
            assert a["text"] == b["text"]
            for key in ("probability", "start_logit", "end_logit"):
                assert a[key] == pytest.approx(b[key], rel=1e-12, abs=1e-12)
    assert ours.null_odds == pytest.approx(null_odds, rel=1e-12, abs=1e-12)


def odd_dataset(tmp_path, seed, version_2):
    paragraphs = odd_paragraphs(seed)
    for paragraph in paragraphs:
        for question in paragraph["qas"]:
            question["is_impossible"] = False
    path = write(tmp_path / "a.json", paragraphs)
    return squad_data.read(path, version_2=version_2)


@pytest.mark.parametrize("version_2", [False, True])
@pytest.mark.parametrize("step", [None, 1.0])
@pytest.mark.parametrize("options", [(20, 30, 0.0), (3, 5, -1.5)])
def test_answers_are_the_references(
    tmp_path, vocab_file, version_2, step, options
):
    for seed in range(2):
        dataset = odd_dataset(tmp_path, seed, version_2)
        tokenizer = tokenization.Tokenizer(vocab_file)
        features = squad_data.features(dataset, tokenizer, 48, 9, 8)
        logits = some_logits(features, seed, step)
        ours = squad_data.decode(dataset, features, *logits, *options)
        theirs = reference_answers(
            dataset, features, vocab_file, logits, options, exact=True
        )
        assert_answers(ours, theirs)
        if version_2:
            assert 0 < list(ours.predictions.values()).count("") < 30
        json.dumps(ours)


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_most_context", lambda q, f, n, p, inside: inside),
        ("_best", lambda x, n: np.argsort(x[:, ::-1])[:, ::-1][:, :n]),
        ("_best", lambda x, n: np.argsort(-x, kind="stable")[:, : n - 1]),
        ("_with_null", lambda spans, *_: spans),
        ("_distinct", lambda c, s, n: {c[a:b]: x for a, b, *x in list(s)[:n]}),
    ],
)
def test_mutants_of_the_answers_are_found(
    tmp_path, vocab_file, monkeypatch, name, mutant
):
    dataset = odd_dataset(tmp_path, 0, version_2=True)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 48, 9, 8)
    logits = some_logits(features, 0, 1.0)
    theirs = reference_answers(
        dataset, features, vocab_file, logits, (20, 30, 0.0), exact=True
    )
    assert_answers(squad_data.decode(dataset, features, *logits), theirs)
    monkeypatch.setattr(decoding, name, mutant)
    with pytest.raises((AssertionError, KeyError)):
        assert_answers(squad_data.decode(dataset, features, *logits), theirs)


@needs_data
def test_answers_of_xquad_are_the_references(tmp_path):
    """Up to blanks, and where the reference does not find a text again."""
    content = load(shared("squad", "xquad.en.json.gz"))
    content["data"] = content["data"][::3]
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = squad_data.read(str(tmp_path / "a.json"))
    vocab_file = shared("bert", "vocab.txt")
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 128, 40, 8)
    logits = some_logits(features, 0)
    options = 20, 30, 0.0
    ours = squad_data.decode(dataset, features, *logits, *options)
    exact, found = (
        reference_answers(dataset, features, vocab_file, logits, options, way)
        for way in (True, False)
    )
    assert_answers(ours, exact)
    differing = [
        name
        for name, text in ours.predictions.items()
        if " ".join(text.split()) != found[0][name]
    ]
    assert len(differing) <= 0.01 * len(dataset.questions)


def test_logits_that_cannot_be_are_refused(tmp_path, vocab_file):
    dataset = odd_dataset(tmp_path, 0, version_2=False)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 48, 9, 8)
    start, end = some_logits(features, 0)
    with pytest.raises(ValueError, match=r"`end_logits` must .*, 48\), receiv"):
        squad_data.decode(dataset, features, start, end[1:])
    end[7, 3] = np.nan
    with pytest.raises(
        ValueError, match="`end_logits` of window 7 are not all"
    ):
        squad_data.decode(dataset, features, start, end)


def test_no_span_that_could_be(tmp_path, vocab_file):
    """The best places are all in the question: the original says `empty`."""
    qas = [entry("1", "the cat sat on", [])]
    paragraphs = [{"context": "the cat", "qas": qas}]
    path = write(tmp_path / "a.json", paragraphs)
    dataset = squad_data.read(path, version_2=True)
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 16, 4, 8)
    logits = np.zeros((1, 16))
    logits[0, 1:4] = 9
    found = squad_data.decode(dataset, features, logits, logits, 3)
    assert found.predictions == {"1": ""}
    assert found.null_odds == {"1": 0.0}
    dataset = dataset._replace(version_2=False)
    found = squad_data.decode(dataset, features, logits, logits, 3)
    assert found.predictions == {"1": "empty"}
    assert found.nbest["1"] == [
        {
            "text": "empty",
            "probability": 1.0,
            "start_logit": 0.0,
            "end_logit": 0.0,
        }
    ]


# Kept and shared out.


def arrays(features):
    rows = np.arange(len(features))
    return [
        *features.inputs(slice(None)).values(),
        features.start_positions,
        features.end_positions,
        *features.windows,
        *features.characters(rows, *[features.windows.places] * 2),
    ]


def assert_same(one, other):
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.diagnostics == other.diagnostics


def test_workers_and_the_cache_change_nothing(tmp_path, vocab_file):
    paragraphs = odd_paragraphs(0, count=150, words=8)
    dataset = squad_data.read(write(tmp_path / "a.json", paragraphs))
    tokenizer = tokenization.Tokenizer(vocab_file)
    settings = dataset, tokenizer, 24, 5, 8
    alone = squad_data.features(*settings)
    cache = tmp_path / "cache"
    shared_out = squad_data.features(
        *settings, num_workers=2, cache_dir=str(cache)
    )
    assert_same(alone, shared_out)
    (kept,) = cache.iterdir()
    files = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    again = squad_data.features(*settings, cache_dir=str(cache))
    assert_same(alone, again)
    assert files == {p.name: p.stat().st_mtime_ns for p in kept.iterdir()}
    # Windows are not kept, other contents are another folder.
    squad_data.features(dataset, tokenizer, 32, 7, 8, cache_dir=str(cache))
    assert len(list(cache.iterdir())) == 1
    for other in (
        dataset._replace(contexts=[c + "." for c in dataset.contexts]),
        dataset._replace(
            questions=[q._replace(text="a") for q in dataset.questions]
        ),
        dataset._replace(
            questions=[q._replace(answers=()) for q in dataset.questions]
        ),
    ):
        before = len(list(cache.iterdir()))
        squad_data.features(other, *settings[1:], cache_dir=str(cache))
        assert len(list(cache.iterdir())) == before + 1
    cased = tokenization.Tokenizer(vocab_file, lower_case=False)
    squad_data.features(dataset, cased, 24, 5, 8, cache_dir=str(cache))
    assert len(list(cache.iterdir())) == 5
    with open(kept / "ends", "ab") as file:
        file.truncate(400)
    with pytest.raises(ValueError, match="damaged; delete the folder"):
        squad_data.features(*settings, cache_dir=str(cache))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 67}, "leaves no room for a context next to 64 tok"),
        ({"doc_stride": 0}, "`doc_stride` must be at least 1, received 0"),
        ({"max_query_length": 0}, "`max_query_length` must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path, vocab_file, changes, message
):
    dataset = odd_dataset(tmp_path, 0, version_2=False)
    tokenizer = tokenization.Tokenizer(vocab_file)
    with pytest.raises(ValueError, match=message):
        squad_data.features(dataset, tokenizer, **changes)


def test_what_is_counted(tmp_path, vocab_file):
    """8 tokens of the context a window, 4 further on the next."""
    context = " ".join(str(i % 10) for i in range(16))
    answers = [
        [("0 1 2 3 4 5 6 7", 0)],  # in the first of three windows
        [("4 5 6 7 8 9", 8)],  # in the second, cut in two
        [("3 4 5 6 7 8", 6)],  # in none, cut in all
        [("x", 0)],  # not where it should be
        [("x", 0), ("0", 0)],  # the second is
    ]
    qas = [entry(str(i), "a w a", found) for i, found in enumerate(answers)]
    path = write(tmp_path / "a.json", [{"context": context, "qas": qas}])
    dataset = squad_data.read(path)
    assert len(dataset.problems) == 2
    tokenizer = tokenization.Tokenizer(vocab_file)
    features = squad_data.features(dataset, tokenizer, 13, 4, 2)
    assert features.diagnostics == {
        "questions": 5,
        "windows": 15,
        "truncated_questions": 5,
        "unusable_answers": 1,
        "without_answer_window": 1,
        "cut_answers": 1 + 2 + 3,
        "tokens": 16 + 15,
        "unknown_tokens": 5,
    }
    assert features.windows.firsts.tolist() == [0, 4, 8] * 5
    assert features.start_positions[:6].tolist() == [4, 0, 0, 0, 4, 0]
    assert features.end_positions[:6].tolist() == [11, 0, 0, 0, 9, 0]
    trained = squad_data.features(dataset, tokenizer, 13, 4, 2, training=True)
    assert sorted(set(trained.questions.tolist())) == [0, 1, 2, 4]


def test_answers_inside_words_are_counted(tmp_path):
    """Of unspaced text: one of three is made of whole tokens."""
    context = "なつのメロディー。富士山は高い"
    qas = [
        entry(text, "何?", [(text, context.index(text))])
        for text in ("メロディー", "富士山", "メロ")
    ]
    path = write(tmp_path / "ja.json", [{"context": context, "qas": qas}])
    vocabulary = tmp_path / "vocab.txt"
    letters = sorted(set(context + "何?"))
    vocabulary.write_text(
        "\n".join(["[PAD]", *tokenization.SPECIAL, *letters])
        + "".join(f"\n##{letter}" for letter in letters)
    )
    dataset = squad_data.read(path)
    tokenizer = tokenization.Tokenizer(str(vocabulary))
    features = squad_data.features(dataset, tokenizer, 64, 32, 8, training=True)
    counts = squad_diagnostics.of_features(dataset, features, 30)
    assert counts["whole_word_answers"] == 2
    assert counts["trained_exact_match"] == pytest.approx(100 / 3)
    (told,) = squad_diagnostics.of_training(counts)
    assert "2 of 3 answers" in told and "at most 33.3" in told


def test_tensorflow_is_not_imported(tmp_path):
    qas = [entry("1")]
    path = write(tmp_path / "a.json", [{"context": "Ann.", "qas": qas}])
    code = (
        "import sys; from bert import squad_data;"
        "dataset = squad_data.read(sys.argv[1]);"
        "assert squad_data.evaluate(dataset, {'1': 'ann'})['f1'] == 100;"
        "print(sorted({'tensorflow', 'keras', 'tf_keras', 'scipy', 'official'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr
