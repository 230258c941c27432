"""A study in one file: the same bytes, checked digests, hostile archives."""

import io
import json
import os
import pathlib
import stat
import struct
import sys
import tempfile
import zipfile
import zlib

import pytest

from lbcheck import report
from lbcheck.report import bundle
from lbcheck.support import exit_codes
from tests import programs
from tests.report import synthetic_study

TURNED = json.dumps(synthetic_study.make_study(name="\u202edigits")).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished study's folder."""
    study = synthetic_study.make_study(("adamw", "lamb"), trials=2, seeds=6)
    records = synthetic_study.make_records(study)
    return synthetic_study.write(
        tmp_path_factory.mktemp("study"), study, records
    )


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Its bundle."""
    return bundle.write(folder, tmp_path_factory.mktemp("bundle") / "a.zip")


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(path, contents, **changes):
    """A bundle of these members, each as `write` has it but for changes."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in contents.items():
            entry = bundle._entry(name)
            for key, value in changes.items():
                setattr(entry, key, value)
            made.writestr(entry, content)
    return path


def test_the_same_records_give_the_same_bytes(folder, whole, tmp_path):
    report.write(folder)  # further files, which are none of the study's
    again = bundle.write(folder, tmp_path / "b.zip")
    assert again.read_bytes() == whole.read_bytes()
    assert [*members(whole)] == ["bundle.json", "study.json", "trials.jsonl"]
    study = folder / "study.json"
    assert members(whole)["study.json"] == study.read_bytes()


def test_the_answer_is_that_of_the_report(folder, whole):
    found = bundle.verify(whole)
    assert found["problems"] == [] and found["finished"]
    report.write(folder)
    results = json.loads((folder / "results.json").read_text())
    assert found["sentence"] == results["verdict"]["sentence"]
    recorded = json.loads(members(whole)["bundle.json"])["answer"]
    assert recorded["verdict"] == results["verdict"]


def test_a_study_that_is_not_finished(tmp_path):
    study = synthetic_study.make_study(("adamw", "lamb"), searches=2)
    synthetic_study.write(tmp_path / "s", study, [])
    inner = {**study, "searches": 1}
    synthetic_study.write(tmp_path / "s/search_1", inner, [])
    path = bundle.write(tmp_path / "s", tmp_path / "a.zip")
    assert "search_1/study.json" in members(path)
    found = bundle.verify(path)
    assert found["problems"] == [] and not found["finished"]
    assert found["sentence"].startswith("No verdict yet")


def test_runs_without_a_training_metric(tmp_path):
    study = synthetic_study.make_study(("adamw", "lamb"), trials=2, seeds=6)
    records = synthetic_study.make_records(study)
    study["facts"]["only_validation"] = True
    for record in records:
        (record["metrics"] or {}).pop("training", None)
    folder = synthetic_study.write(tmp_path / "s", study, records)
    path = bundle.write(folder, tmp_path / "a.zip")
    assert bundle.verify(path)["problems"] == []
    # Nor can they be selected by one.
    study["selection"] = "training"
    synthetic_study.write(folder, study, records)
    with pytest.raises(ValueError, match="has a number in metrics, training"):
        bundle.write(folder, path)


def test_a_changed_record_is_found(whole, tmp_path):
    changed = members(whole)
    lines = changed["trials.jsonl"].split(b"\n")
    record = json.loads(lines[-2])
    record["metrics"]["validation"]["accuracy"] = 0.5
    lines[-2] = json.dumps(record).encode()
    changed["trials.jsonl"] = b"\n".join(lines)
    path = archive(tmp_path / "a.zip", changed)
    digest, answer = bundle.verify(path)["problems"]
    assert digest.startswith("trials.jsonl: its digest is ")
    assert answer.startswith("the answer is not that of the records")
    # Whoever corrects the digest, too, is found by the answer.
    manifest = json.loads(changed["bundle.json"])
    manifest["files"]["trials.jsonl"] = {
        "sha256": digest.split()[4][:-1],
        "bytes": len(changed["trials.jsonl"]),
    }
    changed["bundle.json"] = json.dumps(manifest).encode()
    archive(path, changed)
    assert bundle.verify(path)["problems"] == [answer]


def test_a_changed_answer_is_found(whole, tmp_path):
    changed = members(whole)
    manifest = json.loads(changed["bundle.json"])
    manifest["answer"]["arms"][0]["median"] += 1e-4
    changed["bundle.json"] = json.dumps(manifest).encode()
    path = archive(tmp_path / "a.zip", changed)
    (problem,) = bundle.verify(path)["problems"]
    assert problem.startswith("the answer is not that of the records")
    manifest["answer"]["arms"][0]["median"] -= 1e-4 * (1 - 1e-5)
    changed["bundle.json"] = json.dumps(manifest).encode()
    assert bundle.verify(archive(path, changed))["problems"] == []
    # Nor is any small number as good as another.
    assert bundle._same({"p": 3e-8}, {"p": 3e-8 + 1e-15})
    assert not bundle._same({"p": 3e-8}, {"p": 1e-8})


def test_files_that_are_missing_or_not_recorded(whole, tmp_path):
    changed = members(whole)
    del changed["trials.jsonl"]
    changed["control/trials.jsonl"] = b""
    found = bundle.verify(archive(tmp_path / "a.zip", changed))
    assert "'trials.jsonl' is recorded and missing." in found["problems"]
    assert (
        "control/trials.jsonl is there and not recorded." in (found["problems"])
    )


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../study.json",
        "search_1/../../study.json",
        "search_1\\study.json",
        "C:/study.json",
        "search_0/study.json",
        "search_1000/study.json",
        "search_1/",
        "studyXjson",
        "study.json\n",
        "STUDY.json",
        "runs.py",
        "ledger.db",
        "\x1b[31m",
    ],
)
def test_a_member_that_no_study_has_is_refused(whole, tmp_path, name):
    path = archive(tmp_path / "a.zip", members(whole) | {name: b"{}"})
    with pytest.raises(ValueError, match="a.zip: .*no such member") as raised:
        bundle.verify(path)
    assert "\x1b" not in str(raised.value)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"external_attr": (stat.S_IFLNK | 0o777) << 16},
            "'bundle.json': expected a file, received a link",
        ),
        (
            {"external_attr": (stat.S_IFIFO | 0o777) << 16},
            "expected a file, received a link or other",
        ),
        ({"compress_type": zipfile.ZIP_DEFLATED}, "is compressed or encrypted"),
        ({"compress_type": zipfile.ZIP_LZMA}, "is compressed or encrypted"),
    ],
)
def test_links_and_compressed_members_are_refused(
    whole, tmp_path, changes, message
):
    path = archive(tmp_path / "a.zip", members(whole), **changes)
    with pytest.raises(ValueError, match=message):
        bundle.verify(path)


def test_a_second_name_of_a_member_is_refused(whole, tmp_path):
    """Python 3.12 and newer take it from an extra field of the directory."""
    entry = bundle._entry("study.json")
    entry.filename = "../study.json"
    with pytest.raises(ValueError, match="no such member"):
        bundle._check(entry, "a.zip")
    content = bytearray(whole.read_bytes())
    end, name = len(content) - 22, b"trials.jsonl"
    # Of a length with which the sizes agree.
    other = b"../" + b"e" * (2 * len(name) + 9 - 3)
    extra = struct.pack("<HHBL", 0x7075, 5 + len(other), 1, zlib.crc32(name))
    extra += other
    start = end - 46 - len(name)
    content[start + 30 : start + 32] = len(extra).to_bytes(2, "little")
    size = int.from_bytes(content[end + 12 : end + 16], "little") + len(extra)
    content[end + 12 : end + 16] = size.to_bytes(4, "little")
    content[end:end] = extra
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no such member|its members take"):
        bundle.verify(path)
    assert not pathlib.Path(tempfile.gettempdir(), other[3:].decode()).exists()


def test_a_zip_bomb_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("trials.jsonl", "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(2**20))
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(ValueError, match="is compressed"):
        bundle.verify(path)


def test_lengths_that_lie_are_refused(whole, tmp_path):
    """Members that share the bytes of one, and a length beyond the file."""
    content = bytearray(whole.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as made:
        start = made.start_dir
    lie = (2**30).to_bytes(4, "little")
    content[start + 20 : start + 28] = lie + lie
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its members take"):
        bundle.verify(path)
    whole_bytes = whole.read_bytes()
    for junk in (whole_bytes + bytes(400), b"#!" + whole_bytes):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match="is no bundle: has"):
            bundle.verify(path)


def test_what_a_manifest_says_besides_digests(whole, tmp_path):
    changed = members(whole)
    manifest = json.loads(changed["bundle.json"])
    manifest["files"]["trials.jsonl"]["bytes"] = 1
    manifest["lbcheck"] = "9.9\x1b[31m"
    manifest["answer"]["finished"] = 1
    study = changed["control/study.json"] = changed["study.json"]
    manifest["files"]["control/study.json"] = {
        "sha256": bundle._digest(study),
        "bytes": len(study),
    }
    changed["bundle.json"] = json.dumps(manifest).encode()
    path = archive(tmp_path / "a.zip", changed)
    found = bundle.verify(path)
    size, search, answer = found["problems"]
    assert size.endswith("bytes, recorded are 1.")
    assert search == "control/study.json is of no search that the study has."
    assert "of the records, in finished: recorded is" in answer
    assert "\x1b" not in found["lbcheck"] + answer


def test_a_bundle_replaces_nothing_but_a_bundle(folder, whole, tmp_path):
    for name in ("study.json", "trials.jsonl"):
        before = (folder / name).read_bytes()
        with pytest.raises(ValueError, match="and no bundle to be replaced"):
            bundle.write(folder, folder / name)
        assert (folder / name).read_bytes() == before
    with zipfile.ZipFile(tmp_path / "paper.docx", "w") as other:
        other.writestr("word/document.xml", "words")
    with pytest.raises(ValueError, match="and no bundle to be replaced"):
        bundle.write(folder, tmp_path / "paper.docx")
    again = bundle.write(folder, bundle.write(folder, tmp_path / "a.zip"))
    assert again.read_bytes() == whole.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Is no file that could be replaced"):
        bundle.write(folder, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_too_large_and_too_many(whole, tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("study.json", "{}")
            made.writestr("study.json", "{}")
    with pytest.raises(ValueError, match="different names, received 2 of 1"):
        bundle.verify(path)
    monkeypatch.setattr(bundle, "_MOST_MEMBERS", 2)
    with pytest.raises(ValueError, match="at most 2 members.*received 3"):
        bundle.verify(whole)
    monkeypatch.setattr(bundle, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="a.zip: has .* at most 1,000"):
        bundle.verify(whole)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bundle.json", b"[]", "bundle.json: expected"),
        ("bundle.json", b'{"format": 2}', "bundle.json: .*format"),
        ("study.json", b"{}", "the bundle's study.json: the format"),
        ("trials.jsonl", b"{}\n", "the bundle's trials.jsonl:1: "),
        ("study.json", TURNED, "study.json: a text has control .*u202e"),
        ("trials.jsonl", b"{}", "the bundle's trials.jsonl:1: the line is cut"),
    ],
)
def test_a_damaged_file_in_it_is_named(whole, tmp_path, name, content, message):
    path = archive(tmp_path / "a.zip", members(whole) | {name: content})
    with pytest.raises(ValueError, match=message):
        bundle.verify(path)


def test_no_zip_file(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="a.zip: is no bundle: "):
        bundle.verify(path)
    archive(path, {"study.json": b"{}"})
    with pytest.raises(ValueError, match="it has no bundle.json"):
        bundle.verify(path)


def test_any_byte_changed_is_a_sentence_or_a_finding(whole, tmp_path):
    content = whole.read_bytes()
    path = tmp_path / "a.zip"
    for place in range(0, len(content), max(1, len(content) // 60)):
        changed = bytearray(content)
        changed[place] ^= 0x41
        path.write_bytes(changed)
        try:
            problems = bundle.verify(path)["problems"]
        except ValueError:
            continue
        # Bytes that say nothing, such as a time in a header.
        assert problems or members(path) == members(whole)


def test_reading_one_imports_nothing_that_it_names(folder, tmp_path):
    study = json.loads((folder / "study.json").read_text())
    study["workload"] = "bundle_of_evil:function"
    study["arms"]["lamb"]["optimizer"] = "bundle_of_evil:Optimizer"
    (tmp_path / "bundle_of_evil.py").write_text("raise SystemExit('called')")
    synthetic_study.write(tmp_path / "s", study, [])
    sys.path.insert(0, str(tmp_path))
    try:
        path = bundle.write(tmp_path / "s", tmp_path / "a.zip")
        assert bundle.verify(path)["problems"] == []
    finally:
        sys.path.remove(str(tmp_path))
    assert "bundle_of_evil" not in sys.modules


def run(cwd, *arguments):
    program = programs.Program("lbcheck", arguments, cwd)
    said = program.communicate(timeout=300)
    return program.returncode, *said


def test_the_commands(folder, tmp_path):
    code, out, _ = run(tmp_path, "bundle", str(folder))
    path = tmp_path / f"{folder.name}.zip"
    assert (code, out.strip()) == (exit_codes.FINISHED, path.name)
    changed = members(path)
    changed["trials.jsonl"] = b""
    archive(path, changed)
    code, out, _ = run(tmp_path, "verify", path.name, "--format=json")
    assert code == exit_codes.FINDING
    assert json.loads(out)["problems"][0].startswith("trials.jsonl: its dig")
    code, _, said = run(tmp_path, "verify", str(folder))
    assert code == exit_codes.REFUSED and said.count("\n") == 1
