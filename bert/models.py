"""BERT's architecture: its settings by name or file, the encoder, pretraining.

    settings = config("base")
    model = pretrainer(settings)

Settings are a dict with the keys of Google's bert_config.json. The networks
are TensorFlow Model Garden's, in tf_keras; importing this module imports
neither.
"""

import os
import re

from bert import model_garden
from lbcheck.support import checks
from lbcheck.support import schema

_SIZES = {
    "large": (24, 1024),
    "base": (12, 768),
    "medium": (8, 512),
    "small": (4, 512),
    "mini": (4, 256),
    "tiny": (2, 128),
}
"""{name: (layers, width)}: Devlin et al. 2018; Turc et al. 2019, Table 1."""

_LARGEST_FILE = 2**20
_MOST = 10**6
"""No BERT is wider, deeper or longer."""

_NUMBERS = {
    "attention_probs_dropout_prob": (float, 0.0, 1.0),
    "hidden_dropout_prob": (float, 0.0, 1.0),
    "hidden_size": (int, 1, _MOST),
    "initializer_range": (float, 0.0, _MOST),
    "intermediate_size": (int, 1, _MOST),
    "max_position_embeddings": (int, 1, _MOST),
    "num_attention_heads": (int, 1, _MOST),
    "num_hidden_layers": (int, 1, _MOST),
    "type_vocab_size": (int, 1, _MOST),
    "vocab_size": (int, 1, _MOST),
}
"""{key: (type, lowest, highest)}."""

_ACTIVATIONS = ("gelu", "gelu_erf", "relu", "tanh")
"""Values of hidden_act; "gelu" is Google's, by tanh."""

_HUGGING_FACE_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}

_FIXED = {
    "is_encoder_decoder": False,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
    "pruned_heads": {},
}
"""Further keys of published files that say what holds here anyway."""

_WITHOUT_MEANING = re.compile(
    "_?name(_or_path)?|_?attn_implementation.*|architectures|bad_words_ids"
    "|chunk_size_feed_forward|classifier_dropout|cross_attention_hidden_size"
    "|decoder_start_token_id|diversity_penalty|do_sample|dtype|early_stopping"
    "|(bos|cls|eos|forced_bos|forced_eos|mask|pad|sep|unk)_token_ids?"
    "|finetuning_task|gradient_checkpointing|id2label|label2id|language"
    "|(length|repetition)_penalty|(max|min)_length|_?num_labels"
    "|num_(beams|beam_groups|return_sequences)|(encoder_)?no_repeat_ngram_size"
    "|output_(attentions|hidden_states|past|scores)|pooler_.*|prefix"
    "|problem_type|remove_invalid_values|return_dict(_in_generate)?"
    "|task_specific_params|temperature|tf_legacy_loss|tie_encoder_decoder"
    "|tie_word_embeddings|tokenizer_class|top_[kp]|torch_dtype|torchscript"
    "|transformers_version|typical_p|use_bfloat16|use_cache"
)
"""Keys of published files that decide nothing of the encoder: of what
transformers keeps of every model, and of how an answer is generated."""


def config(name: str, **changes) -> dict:
    """The settings of an architecture.

    Args:
        name: "large", "base", "medium", "small", "mini", "tiny"; "LxH" for
            L layers of width H, a multiple of 64, such as "4x128"; or the
            path of a bert_config.json or of a Hugging Face config.json, or
            of the folder that holds one.
        **changes: Settings to take instead, such as vocab_size=4000.

    Returns:
        {key of bert_config.json: value}; hidden_act is "gelu" for the
        approximation by tanh, as at Google, or "gelu_erf", "relu", "tanh".

    Raises:
        ValueError: The name is unknown, or a key is missing, unknown or out
            of range; the message names file and key.

    Example:
        >>> config("base")["num_attention_heads"]
        12
        >>> config("4x128", vocab_size=4000)["intermediate_size"]
        512

    Source: Devlin et al. 2018, Section 3; Turc et al. 2019, "Well-read
    students learn better", for the smaller ones.
    """
    size = re.fullmatch(r"(\d+)x(\d+)", name)
    if name in _SIZES:
        found = _of_size(*_SIZES[name])
    elif size and int(size[1]) and int(size[2]) % 64 == 0 != int(size[2]):
        found = _of_size(int(size[1]), int(size[2]))
    elif os.path.exists(name):
        found = _read(name)
    else:
        raise ValueError(
            f"{name!r} is no configuration of BERT: expected one of "
            f"{', '.join(_SIZES)}, LxH with H a multiple of 64, or the path "
            "of a JSON file."
        )
    return checked({**found, **changes}, name)


def _of_size(layers, width):
    return {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
        "num_attention_heads": width // 64,
        "num_hidden_layers": layers,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }


def _read(path):
    if os.path.isdir(path):
        names = ("bert_config.json", "config.json")
        inside = [os.path.join(path, name) for name in names]
        path = next(filter(os.path.exists, inside), None)
        if path is None:
            raise ValueError(f"{inside[0]}: there is no such file.")
    found = schema.read(path, dict, _LARGEST_FILE)
    # Older files of Hugging Face do not say what they are of.
    beside = os.listdir(os.path.dirname(path) or ".")
    hugging_face = "model_type" in found or any(
        name.endswith(".safetensors") for name in beside
    )
    for key, value in _FIXED.items():
        given = found.pop(key, value)
        if given != value:
            raise ValueError(
                f"{path}: {key} is {schema.shown(given)}; this architecture "
                f"has {value!r}."
            )
    if hugging_face and "hidden_act" in found:
        activation = str(found["hidden_act"])
        found["hidden_act"] = _HUGGING_FACE_ACTIVATIONS.get(
            activation, activation
        )
    return {k: v for k, v in found.items() if not _WITHOUT_MEANING.fullmatch(k)}


def checked(found: dict, origin: str) -> dict:
    """The settings themselves, sorted, if they are whole and in range.

    Raises:
        ValueError: They are not; names `origin` and the key.
    """
    keys = {*_NUMBERS, "hidden_act"}
    for problem, names in (
        ("missing", keys - found.keys()),
        ("unknown", found.keys() - keys),
    ):
        if names:
            shown = ", ".join(
                name if name.isidentifier() else schema.shown(name)
                for name in sorted(names)
            )
            raise ValueError(
                f"{origin}: {problem} {shown}; expected "
                f"the keys {', '.join(sorted(keys))}."
            )
    for key, (kind, lowest, highest) in _NUMBERS.items():
        value = found[key]
        fits = checks.is_number(value, (int, kind))
        if not fits or not lowest <= value <= highest:
            raise ValueError(
                f"{origin}: {key} must be {kind.__name__} in [{lowest}, "
                f"{highest}], received {schema.shown(value)}."
            )
    if found["hidden_act"] not in _ACTIVATIONS:
        raise ValueError(
            f"{origin}: hidden_act must be one of {', '.join(_ACTIVATIONS)}, "
            f"received {schema.shown(found['hidden_act'])}."
        )
    if found["hidden_size"] % found["num_attention_heads"]:
        raise ValueError(
            f"{origin}: hidden_size={found['hidden_size']} does not divide "
            f"among num_attention_heads={found['num_attention_heads']}."
        )
    return {key: found[key] for key in sorted(keys)}


def encoder(settings: dict):
    """A new encoder.

    Args:
        settings: What `config` returned.

    Returns:
        Model Garden's `BertEncoderV2`, its variables made. It takes a dict of
        int32 (batch, length): input_word_ids, input_mask, input_type_ids, and
        gives a dict with "sequence_output" (batch, length, hidden_size) and
        "pooled_output" (batch, hidden_size).

    Example: `encoder(config("tiny"))`

    Source: Devlin et al. 2018, Section 3.
    """
    model_garden.check()
    import tf_keras
    from official.nlp.modeling import networks

    made = networks.BertEncoderV2(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["hidden_size"],
        num_layers=settings["num_hidden_layers"],
        num_attention_heads=settings["num_attention_heads"],
        max_sequence_length=settings["max_position_embeddings"],
        type_vocab_size=settings["type_vocab_size"],
        inner_dim=settings["intermediate_size"],
        inner_activation=activation(settings),
        output_dropout=settings["hidden_dropout_prob"],
        attention_dropout=settings["attention_probs_dropout_prob"],
        initializer=tf_keras.initializers.TruncatedNormal(
            stddev=settings["initializer_range"]
        ),
        name="encoder",
    )
    made(made.inputs)  # makes the variables
    return made


def activation(settings: dict):
    """The function that hidden_act names."""
    import tf_keras
    from official.modeling import tf_utils

    name = settings["hidden_act"]
    if name == "gelu":
        return tf_utils.get_activation("gelu")  # by tanh
    return getattr(tf_keras.activations, name.removesuffix("_erf"))


def pretrainer(settings: dict):
    """A new encoder with the two heads of pretraining.

    Args:
        settings: What `config` returned.

    Returns:
        A `bert.pretrainer.Pretrainer`, a tf_keras model.

    Example: `pretrainer(config("tiny")).compile(optimizer)`

    Source: Devlin et al. 2018, Section 3.1.
    """
    from bert import pretrainer

    return pretrainer.Pretrainer(settings)
