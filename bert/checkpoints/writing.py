"""`write`: a BERT as Google, Model Garden or Hugging Face store it."""

import os
import shutil

from bert.checkpoints import huggingface
from bert.checkpoints import tensorflow_files
from bert.checkpoints import variables
from lbcheck.support import files

_WRITERS = {
    "google": tensorflow_files.write_google,
    "garden": tensorflow_files.write_garden,
    "huggingface": huggingface.write,
}

FORMATS = tuple(_WRITERS)


def write(
    model,
    settings: dict,
    output_dir: str | os.PathLike,
    format: str,
    parts: tuple[str, ...] = tuple(variables.PARTS),
    vocab_file: str | os.PathLike | None = None,
) -> None:
    """Writes a model's weights to a new folder, whole or not at all.

    google: bert_model.ckpt and bert_config.json, as google-research/bert
    and Model Garden's converter take them. garden: bert_model.ckpt of
    Model Garden's encoder or `BertPretrainerV2`. huggingface:
    model.safetensors and config.json.

    Args:
        model: As `load_initial` takes it.
        settings: Its `bert.models.config`.
        output_dir: A folder that is empty or not there.
        format: One of `FORMATS`.
        parts: Those of `variables.PARTS` to write; what the model lacks is
            left out.
        vocab_file: Vocabulary to copy next to them as vocab.txt.

    Raises:
        ValueError: The folder is not empty, the format unknown, or it is
            garden and there is no pooler to write.

    Example: `write(model, config("base"), "exported", "huggingface")`
    """
    if format not in _WRITERS:
        raise ValueError(f"format must be one of {FORMATS}, not {format!r}.")
    output_dir = os.fspath(output_dir)
    if os.path.exists(output_dir) and os.listdir(output_dir):
        raise ValueError(f"{output_dir} is not empty.")
    arrays = {
        name: variables.to_google(name, found[0].numpy())
        for name, found in variables.of(model).items()
        if variables.part(name) in parts
    }
    with files.making_folder(output_dir) as unfinished:
        _WRITERS[format](os.fspath(unfinished), arrays, settings)
        if vocab_file is not None:
            shutil.copyfile(vocab_file, unfinished / "vocab.txt")
