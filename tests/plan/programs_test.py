"""Every flagfile is planned where its paper ran it, without data."""

import functools
import importlib
import json
import pathlib
import sys
import types

import pytest
from absl import app
from absl import flags

from lbcheck.plan import network
from lbcheck.plan import plan_command
from lbcheck.plan import planning
from lbcheck.plan import topologies
from lbcheck.support import flagfiles
from tests.programs import Program

ROOT = pathlib.Path(__file__).parents[2]
FLAGFILES = {
    "resnet.train": sorted(ROOT.glob("flags/resnet/*.flags")),
    "bert.pretrain": sorted(ROOT.glob("flags/bert/*.flags")),
    "bert.squad": sorted(ROOT.glob("flags/squad/*.flags")),
}
ALL = [
    (program, path)
    for program, paths in FLAGFILES.items()
    for path in paths
    if "--workload=" not in path.read_text()
    and "--program=" not in path.read_text()
]
NAMED = pytest.mark.parametrize(
    "program, path", ALL, ids=[f"{p.parent.name}/{p.stem}" for _, p in ALL]
)


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("LBCHECK_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")


def described(program, *arguments):
    """The runs of a program, whose flags are as at its start."""
    flag_values = importlib.import_module(program).FLAGS
    for name in flag_values:
        flag_values[name].unparse()
    return plan_command.described(program, flagfiles.expanded(arguments))


def published(program, path):
    """The runs of a flagfile and the topology of its paper, or a CPU."""
    runs = described(program, f"--flagfile={path}")
    batch = max(run.options.batch_size for run in runs)
    if program == "bert.squad":
        return runs, "v3-8" if "large" in path.name else "cpu"
    paper = "you2019" in path.name or "nado2021" in path.name
    if program == "bert.pretrain" and paper:
        if "nado2021" in path.name:  # ICLR, Appendix: TPUv3-512 and -1024
            return runs, "v3-512" if batch == 32768 else "v3-1024"
        # You et al. 2019, Table 1: 32 examples a chip, of two cores.
        small = ("--microbatch_size=16", "--phase2_microbatch_size=8")
        runs = described(program, f"--flagfile={path}", *small)
        return runs, f"v3-{min(batch, 32768) // 16}"
    if program == "resnet.train" and batch >= 8192:
        return runs, "v3-128"
    return runs, "cpu"


def no_network(run, examples):
    """A trace that is not looked at."""
    del run
    found = type("Found", (), dict.fromkeys(planning_names(), 1))
    return network.Network(examples, 1, 1, 1, 1, found)


def planning_names():
    return ("forward_flops", "flops", "kept", "least", "working")


@NAMED
def test_every_flagfile_is_planned(program, path):
    runs, name = published(program, path)
    two_phases = program == "bert.pretrain" and "phase2_" in path.read_text()
    assert len(runs) == 1 + two_phases
    topology = topologies.find(name)
    for run in runs:
        plan = planning.plan(run, topology, 0.3, None, no_network)
        divided = plan.microbatches * plan.microbatch_size * topology.replicas
        assert divided == plan.batch_size
        if program == "resnet.train" and plan.ghost_batch:
            assert plan.ghost_batches * plan.ghost_batch == plan.microbatch_size


def test_what_is_known_of_published_runs():
    (image,) = described(
        "resnet.train", f"--flagfile={ROOT}/flags/resnet/nesterov_b.flags"
    )
    assert image.options.virtual_batch_size == 64
    assert image.options.total_steps == 2512
    assert image.example(3)[0] == ((3, 224, 224, 3), "float32")
    (words,) = image.assumed
    assert words.startswith("the 1,281,167 training images")
    path = ROOT / "flags/bert/you2019_lamb_32768.flags"
    first, second = described("bert.pretrain", f"--flagfile={path}")
    assert first.example(2)[0]["input_mask"][0] == (2, 128)
    assert second.example(2)[0]["masked_lm_positions"][0] == (2, 80)
    assert "512 tokens and 80 predictions" in second.assumed[0]
    path = ROOT / "flags/squad/large.flags"
    (squad,) = described("bert.squad", f"--flagfile={path}")
    # Devlin et al. 2018: 2 epochs of batch 24 of 87,599 questions.
    assert squad.options.total_steps == 7299
    assert squad.example(4)[0]["input_word_ids"][0] == (4, 384)


def test_ghost_batches_of_models_that_have_none_and_of_a_whole_batch():
    base = f"--flagfile={ROOT}/flags/resnet/mnist_momentum.flags"
    assert described("resnet.train", base)[0].options.virtual_batch_size is None
    base = f"--flagfile={ROOT}/flags/resnet/lars.flags"
    found = described("resnet.train", base, "--virtual_batch_size=0")
    assert found[0].options.virtual_batch_size == 0
    line = "--data=digits --optimizer=nesterov --schedule=constant"
    line += " --learning_rate=0.1 --batch_size=256 --train_steps=9"
    found = described("resnet.train", *line.split(), "--output_dir=none")
    assert found[0].options.virtual_batch_size == 64


@pytest.mark.parametrize(
    "program, flags, said",
    [
        (
            "bert.squad",
            "--mode=evaluate --predict_file=a --output_dir=b",
            "--mode=evaluate: only --mode=train is planned",
        ),
        (
            "bert.pretrain",
            f"--flagfile={ROOT}/flags/bert/mini.flags "
            "--train_epochs=2 --train_steps=",
            "train_steps",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(program, flags, said):
    with pytest.raises(Exception, match=said):
        described(program, *flags.split())


@pytest.mark.parametrize("planned", [None, [], 3, [3], "one"])
def test_a_program_that_gives_no_runs_is_refused(planned, monkeypatch):
    made = types.ModuleType("gives_no_runs")
    made.FLAGS, made.planned = flags.FlagValues(), lambda: planned
    monkeypatch.setitem(sys.modules, made.__name__, made)
    with pytest.raises(app.UsageError, match="must return a list of .*Run"):
        described(made.__name__)


def program(*arguments):
    made = Program("lbcheck", ["plan", *arguments])
    out, error = made.communicate(300)
    return made.returncode, out, error


def test_the_command_refuses_what_cannot_fit_and_says_what_does():
    code, out, error = program(
        "--program=resnet.train",
        f"--flagfile={ROOT}/flags/resnet/nesterov_b.flags",
        "--topology=v3-64",
        "--microbatch_size=512",
        "--format=json",
        "--price_per_chip_hour",
        "2.2",
    )
    assert code == 2
    (run,) = json.loads(out)["runs"]
    # torchvision's ResNet-50 has as many weights.
    assert run["parameters"] == 25_557_032
    # He et al. 2016 and the torchvision table: 4.09 billion multiply-adds.
    assert abs(run["forward_flops"] / 2 / 4.09e9 - 1) < 0.005
    assert run["verdict"] == "does not fit" and run["fitting"] == 128
    assert "--microbatch_size=128 fits" in error
    assert run["dollars"] == run["hours"] * 32 * 2.2


def test_its_own_flags_may_stand_in_the_flagfile(tmp_path):
    path = tmp_path / "plan.flags"
    lines = [
        "--program=resnet.train",
        "--topology=cpu",
        f"--flagfile={ROOT}/flags/resnet/digits_lars.flags",
    ]
    path.write_text("\n".join(lines))
    code, out, error = program(f"--flagfile={path}", "--format=json")
    assert code == 0, error
    assert json.loads(out)["topology"]["name"] == "cpu"
    path.write_text("\n".join([*lines, "--momentun=1"]))
    code, out, error = program(f"--flagfile={path}")
    assert code == 2 and out == ""
    assert f"{path}:4: " in error and "momentun" in error


@pytest.mark.parametrize(
    "flags, said",
    [
        ((), "--program is needed"),
        (("--program=resnet.train",), "--topology is needed"),
        (("--program=math", "--topology=cpu"), "module 'math' has no 'FLAGS'"),
        (("--program=nowhere", "--topology=cpu"), "no module 'nowhere'"),
        (
            ("--program=resnet.train", "--topology=cpu", "--momentun=1"),
            "flag 'momentun'",
        ),
        (("--program=resnet.train", "--topology=cpu", "--optimizer=lars"), ""),
        (("--utilization=1.5",), "utilization"),
        (("--price_per_chip_hour=-1",), "price_per_chip_hour"),
    ],
)
def test_bad_input_is_one_sentence(flags, said):
    code, out, error = program(*flags)
    assert code == 2 and out == ""
    assert error.startswith("lbcheck plan: ") and said in error
    assert "Traceback" not in error


@functools.cache
def bert(config, length, predictions, size):
    from bert import pretrain

    described(
        "bert.pretrain",
        f"--flagfile={ROOT}/flags/bert/you2019_lamb_32768.flags",
        f"--bert_config={config}",
        f"--microbatch_size={size}",
    )
    example = functools.partial(pretrain._example, length, predictions)
    first = pretrain.planned()[0]._replace(example=example)
    return network.trace(first, size)


def test_bert_has_the_published_parts():
    found = bert("mini", 128, 20, 4)
    width, inner, layers, tokens = 256, 1024, 4, 30522
    block = 4 * width * (width + 1) + 2 * width * inner + inner + width
    norms = 4 * width
    embeddings = (tokens + 512 + 2) * width + 2 * width
    heads = width * (width + 1) * 2 + 2 * width + tokens + 2 * (width + 1)
    assert found.parameters == layers * (block + norms) + embeddings + heads
    # LAMB: two moments of each.
    assert found.slot_bytes == 2 * found.trainable_bytes
    products = layers * (4 * width**2 + 2 * width * inner) * 128
    products += layers * 2 * 128 * 128 * width  # scores and sums
    products += 20 * width * (width + tokens) + width * (width + 2)
    # One-hot types and the choice of positions are products here, too.
    assert abs(found.found.forward_flops / (4 * 2 * products) - 1) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("length, predictions", [(128, 20), (512, 80)])
def test_bert_large(length, predictions):
    found = bert("large", length, predictions, 8)
    assert found.parameters == 336_226_108  # "340M", Devlin et al. 2018
    # 2 FLOPs a weight of the blocks and a token, and attention's own.
    blocks = 24 * 12 * 1024**2
    tokens = 2 * (blocks * length + 24 * 2 * length**2 * 1024)
    assert 1.0 < found.found.forward_flops / 8 / tokens < 1.03
    assert abs(found.found.flops / found.found.forward_flops - 3) < 0.01


@pytest.mark.slow
def test_the_largest_batch_of_you2019_is_the_largest_that_fits():
    # Section 4.1: at length 512 memory allows 32,768 on a v3 pod of 1,024
    # chips, 16 a core, and not 65,536.
    pod = topologies.find("v3-2048")
    flags = (
        f"--flagfile={ROOT}/flags/bert/you2019_lamb_32768.flags",
        "--phase=2",
        "--mixed_precision=bfloat16",
    )
    for each, verdict in ((16, planning.COMPILED), (32, planning.TOO_LARGE)):
        (run,) = described(
            "bert.pretrain",
            *flags,
            f"--phase2_microbatch_size={each}",
            f"--phase2_batch_size={each * 2048}",
        )
        assert planning.plan(run, pod, 0.3).verdict == verdict
