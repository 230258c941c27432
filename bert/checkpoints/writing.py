"""`write`: a BERT as Google, Model Garden or Hugging Face store it."""

FORMATS = ("google", "garden", "huggingface")


def write(model, settings, output_dir, format, vocab_file=None) -> None:
    """Writes a model's encoder and pretraining heads to a new folder.

    Args:
        model: As `load_initial` takes it.
        settings: Its `bert.models.config`.
        output_dir: Folder, made whole or not at all.
        format: One of `FORMATS`.
        vocab_file: Vocabulary to put beside it, or None.
    """
    raise NotImplementedError(model, settings, output_dir, format, vocab_file)
