"""The notebook of the site runs from its first cell to its last."""

import nbclient
import nbformat
import pytest

from tests.docs import commands

NOTEBOOK = commands.ROOT / "docs/lbcheck.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_no_output_is_kept(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_it_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(commands.ROOT))
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    said = "".join(
        output.get("text") or output["data"].get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert "sequential/dense/kernel" in said and "nothing suspicious" in said
    assert "needed" in said.lower() and "6 of 6" in said
    assert "srcdoc=" in said and "ERROR jump at step 3,125" in said
    assert (tmp_path / "my_study/report.html").exists()
