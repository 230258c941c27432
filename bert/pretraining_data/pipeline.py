"""The whole way from text to shards, resumed where it was stopped.

Beside the shards PREFIX-00000-of-0000N stand PREFIX.json, what they are and
hold, and until all is done the folder PREFIX.work with the tokenized blocks.
"""

import contextlib
import functools
import json
import os
import pathlib
import reprlib
import shutil
import unicodedata
from typing import Any
from typing import TypedDict

from bert import tokenization
from bert.pretraining_data import shards
from bert.pretraining_data import text_sources
from bert.pretraining_data import token_blocks
from bert.pretraining_data import vocabulary
from bert.pretraining_data import workers
from lbcheck.support import files
from lbcheck.support import schema

SHARD_BYTES = 10 * 10**6
"""Text of a shard where --num_shards does not say otherwise."""

_Begun = dict[str, Any]
_Block = TypedDict(
    "_Block", dict.fromkeys(token_blocks.Counts._fields, schema.Whole)
)
_Shard = TypedDict("_Shard", dict.fromkeys(shards.Counts._fields, schema.Whole))


class Done(TypedDict):
    """PREFIX.json: what shards are made of and hold."""

    made_with: _Begun
    text: _Block
    shards: list[_Shard]


def run(
    origins: list[text_sources.Source],
    settings: shards.Settings,
    prefix: str,
    train_vocab: int | None = None,
    split_sentences: bool = False,
    num_shards: int | None = None,
    num_workers: int = 1,
    progress: bool = False,
) -> dict:
    """Makes all shards that are not there yet.

    Args:
        origins: The text.
        settings: How records are made.
        prefix: Path of the shards, less -00000-of-00001.
        train_vocab: Tokens to learn from the text first, into the
            `vocab_file` of the settings; None: it is there.
        split_sentences: Lines are paragraphs.
        num_shards: At most half as many as there are documents; None: one
            for every `SHARD_BYTES` of text.
        num_workers: Processes; they change nothing but the time.
        progress: Show progress bars.

    Returns:
        What PREFIX.json holds.

    Raises:
        ValueError: The text cannot be used, or what is there was made with
            other settings, or is being made.
    """
    home = pathlib.Path(prefix).parent
    if home.exists() and not home.is_dir():
        raise ValueError(f"{home}: expected a folder.")
    record = pathlib.Path(f"{prefix}.json")
    folder = pathlib.Path(f"{prefix}.work")
    begun = folder / "made_with.json"
    with _made(home), _alone(folder):
        if train_vocab and not (record.exists() or begun.exists()):
            vocabulary.train(
                settings.vocab_file, origins, train_vocab, settings.lower_case
            )
        made_with = _identity(origins, settings) | {
            "train_vocab": train_vocab,
            "split_sentences": split_sentences,
            "num_shards": num_shards,
        }
        for path, kind in ((record, Done), (begun, _Begun)):
            _same(path, _read(path, kind), made_with)
        done = _read(record, Done)
        if not done or not _all_whole(prefix, done["shards"]):
            _write(begun, made_with)
            bars = functools.partial(_bar, progress)
            try:
                text, places = _tokenize(
                    folder,
                    origins,
                    settings,
                    split_sentences,
                    num_workers,
                    bars,
                )
                count = _num_shards(num_shards, text, origins)
            except ValueError:
                # Text that is mended is other text: nothing of this one could
                # be used.
                shutil.rmtree(folder)
                if train_vocab:
                    os.unlink(settings.vocab_file)
                raise
            made = _make(
                prefix, folder, count, places, settings, num_workers, bars
            )
            done = {
                "made_with": made_with,
                "text": text._asdict(),
                "shards": made,
            }
            _write(record, done)
        shutil.rmtree(folder)
    return done


def _identity(origins, settings: shards.Settings) -> dict:
    """What decides the bytes of the shards, apart from their number."""
    own = settings._asdict()
    path = own.pop("vocab_file")
    tokenizer = tokenization.Tokenizer(path, settings.lower_case)
    return {
        "format": 1,
        "inputs": [source.identity for source in origins],
        "vocabulary": tokenizer.identity,
        **own,
        "unicode": unicodedata.unidata_version,
    }


def _tokenize(folder, origins, settings, split_sentences, num_workers, bars):
    """(counts of the text, (file, documents) of each block)."""
    tasks = (
        (str(folder / f"block-{index:05}"), block, settings, split_sentences)
        for index, block in enumerate(text_sources.blocks(origins))
    )
    sizes = [source.size for source in origins]
    total = token_blocks.Counts(0, 0, 0, 0, 0)
    places = []
    with bars("tokens", "B", None if None in sizes else sum(sizes)) as bar:
        for path, counts in workers.in_order(_block, tasks, num_workers):
            places.append((path, counts.documents))
            total = token_blocks.Counts(*map(sum, zip(total, counts)))
            bar.update(counts.bytes)
    return total, places


def _make(prefix, folder, count, places, settings, num_workers, bars) -> list:
    """Writes all shards; their counts."""
    tasks = (
        (prefix, str(folder), index, count, places, settings)
        for index in range(count)
    )
    made = []
    with bars("records", "shard", count) as bar:
        for counts in workers.in_order(_shard, tasks, num_workers):
            made.append(counts._asdict())
            bar.update()
    return made


def _block(path, block, settings, split_sentences) -> tuple:
    """Tokenizes a block if that was not done; (its file, its counts)."""
    record, content = pathlib.Path(f"{path}.json"), f"{path}.npy"
    done = _read(record, _Block)
    if done and token_blocks.holds(content, done["documents"]):
        return content, _counts(token_blocks.Counts, done)
    counts = token_blocks.write(
        content,
        block,
        settings.vocab_file,
        settings.lower_case,
        split_sentences,
    )
    _write(record, counts._asdict())
    return content, counts


def _shard(prefix, folder, index, count, places, settings) -> shards.Counts:
    """Writes a shard if that was not done."""
    path = _name(prefix, index, count)
    part = os.path.join(folder, f"shard-{index:05}.part")
    record = pathlib.Path(folder, f"shard-{index:05}.json")
    done = _read(record, _Shard)
    if done and _whole(path, done):
        return _counts(shards.Counts, done)
    counts = shards.write(path, part, index, count, places, settings)
    _write(record, counts._asdict())
    return counts


def _name(prefix: str, index: int, count: int) -> str:
    return f"{prefix}-{index:05}-of-{count:05}"


def _whole(path: str, counts: dict) -> bool:
    return os.path.exists(path) and os.path.getsize(path) == counts["bytes"]


def _all_whole(prefix: str, made: list[dict]) -> bool:
    paths = (_name(prefix, index, len(made)) for index in range(len(made)))
    return all(map(_whole, paths, made))


def _num_shards(asked: int | None, text: token_blocks.Counts, origins) -> int:
    """How many shards, at least two documents in each."""
    most = text.documents // 2
    if asked is None and most:
        return min(most, -(-text.bytes // SHARD_BYTES))
    if asked is not None and asked <= most:
        return asked
    names = text_sources.names(origins)
    if not text.documents:
        raise ValueError(f"{names}: there is no text in it.")
    if text.documents == 1:
        raise ValueError(
            f"{names}: one document only. Put a blank line between documents: "
            "the next sentence that is no next sentence is taken from "
            "another one."
        )
    raise ValueError(
        f"--num_shards={asked}: {text.documents} documents are enough for "
        f"{most}, with two in each."
    )


def _same(path: pathlib.Path, there: dict | None, wanted: dict) -> None:
    """Refuses what was made otherwise."""
    if there is None:
        return
    there = there.get("made_with", there)
    for name, value in wanted.items():
        if there.get(name) != value:
            raise ValueError(
                f"{path}: what is there was made with {name} "
                f"{_brief(there.get(name))}, not {_brief(value)}. Write "
                "elsewhere, or delete it with its shards."
            )


def _brief(value) -> str:
    """A value of a setting; of many inputs only how many there are."""
    many = isinstance(value, list) and len(value) > 2
    return f"of {len(value)} files" if many else reprlib.repr(value)


@contextlib.contextmanager
def _made(home: pathlib.Path):
    """A folder; if nothing is written there, not even those around it stay."""
    new = [f for f in (home, *home.parents) if not f.exists()]
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            for made in new:
                made.rmdir()


@contextlib.contextmanager
def _alone(folder: pathlib.Path):
    """The folder of what is not finished, for this process only."""
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock(folder / "lock", wait=False))
        except BlockingIOError as error:
            raise ValueError(
                f"{folder}: another process is writing these shards."
            ) from error
        try:
            yield
        finally:
            if folder.exists() and os.listdir(folder) == ["lock"]:
                shutil.rmtree(folder)


def _read(path: pathlib.Path, kind) -> dict | None:
    return schema.read(path, kind) if path.exists() else None


def _write(path: pathlib.Path, content: dict) -> None:
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def _counts(kind, found: dict):
    return kind(*(found[name] for name in kind._fields))


def _bar(shown: bool, what: str, unit: str, total: int | None):
    import tqdm

    return tqdm.tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        disable=None if shown else True,
        dynamic_ncols=True,
    )
