"""BERT beside a TensorFlow that Model Garden does not allow."""

import importlib.metadata

import pytest
from absl import flags

from bert import model_garden
from bert import models
from bert import pretrain
from bert import squad


def installed(monkeypatch, **versions):
    def version(name):
        if name.replace("-", "_") not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(importlib.metadata, "version", version)


TWENTY = {
    "tf_models_official": "2.20.0",
    "tensorflow": "2.20.1",
    "tf_keras": "2.20.1",
}


def test_what_model_garden_allows(monkeypatch):
    model_garden.check()
    installed(monkeypatch, **TWENTY)
    model_garden.check()
    del TWENTY["tensorflow"]
    installed(monkeypatch, **TWENTY, tensorflow_cpu="2.20.0")
    model_garden.check()


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        (
            {"tensorflow": "2.21.0", "tf_keras": "2.21.0"},
            "need tf-models-official 2.20 with tensorflow and tf-keras 2.20; "
            "installed: tf-models-official none, tensorflow 2.21.0, tf-keras "
            "2.21.0. Install 'lbcheck.bert.' into an environment of its own",
        ),
        (
            TWENTY | {"tensorflow": "2.21.0", "tf_keras": "2.21.0"},
            "installed: tf-models-official 2.20.0, tensorflow 2.21.0",
        ),
        (TWENTY | {"tf_keras": "2.2.0"}, "tf-keras 2.2.0"),
    ],
)
def test_other_versions_are_one_sentence(monkeypatch, versions, message):
    installed(monkeypatch, **versions)
    with pytest.raises(ImportError, match=message):
        models.encoder(models.config("tiny"))


@pytest.mark.parametrize("program", [pretrain, squad])
def test_the_programs_refuse_before_anything_else(
    monkeypatch, tmp_path, program
):
    installed(monkeypatch, tensorflow="2.21.0", tf_keras="2.21.0")
    monkeypatch.setattr(program, "settings", _Accepting)
    values = flags.FlagValues()
    flags.DEFINE_bool("dry_run", False, "", flag_values=values)
    flags.DEFINE_list("mode", ["train", "evaluate"], "", flag_values=values)
    values(["program"])
    monkeypatch.setattr(program, "FLAGS", values)
    with pytest.raises(ImportError, match="installed: tf-models-official none"):
        program.main()


class _Accepting:
    @staticmethod
    def check(values):
        pass
