"""The documents are correct: links resolve, code blocks run, and models and corpora added as described work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serzoo.data.protocols import protocol_names
from serzoo.settings import SELECTION_RULES

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
BLOCK = re.compile(r"^```(python|yaml|text)\n(?:# (\S+/\S+)\n)?(.*?)^```", re.MULTILINE | re.DOTALL)
"""Language, the file it belongs to (if its first line names one), and content."""

LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")
"""Path, empty for the document itself, and the anchor of a section."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the documents change."""
    for name in ("serzoo", "zoo_configs", "tests/contract", "tests/fixtures"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py", "tests/shapes.py"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def follow(document: str, checkout: Path) -> None:
    """Write or extend the files that a document's blocks name, and run its other Python."""
    script = ""
    for language, file, content in BLOCK.findall((REPOSITORY / "docs" / document).read_text(encoding="utf-8")):
        if file:
            with (checkout / file).open("a", encoding="utf-8") as extended:
                extended.write(content)
        elif language == "python":
            script += content
    run(checkout, "-c", script)


def run(checkout: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def contract_tests(checkout: Path, files: str, selection: str) -> int:
    """Run the contract tests selected by ``selection`` and return the number that passed."""
    output = run(checkout, "-m", "pytest", "-q", f"tests/contract/{files}", "-k", selection)
    return int(re.search(r"(\d+) passed", output)[1])


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_resolve(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    targets = [(document.parent / path if path else document, anchor) for path, anchor in links]
    assert [path for path, _ in targets if not path.exists()] == []
    assert [(path.name, anchor) for path, anchor in targets if anchor and anchor not in anchors(path)] == []


@pytest.mark.parametrize(
    "document",
    [
        "../README.md",
        pytest.param("adding-a-feature.md", marks=pytest.mark.slow),
        pytest.param("anti-transfer.md", marks=pytest.mark.slow),
        "embeddings.md",
        pytest.param("gender.md", marks=pytest.mark.slow),
        "protocols.md",
    ],
)
def test_code_runs(document: str, checkout: Path) -> None:
    follow(document, checkout)


@pytest.mark.slow
def test_readme_shows_the_output_of_its_prediction() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    arguments = re.search(r"^\.venv/bin/serzoo (predict .*)", text, re.MULTILINE)[1].split()
    code = f"from serzoo.cli import main; import sys; sys.argv = ['serzoo', *{arguments}]; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert f"```\n{done.stderr}{done.stdout}```" in text


def test_protocols_and_selection_rules_are_explained() -> None:
    text = (REPOSITORY / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert [name for name in [*protocol_names(), *SELECTION_RULES] if f"| `{name}` |" not in text] == []


def test_corpus_added_as_described_meets_the_contract(checkout: Path) -> None:
    follow("adding-a-corpus.md", checkout)
    assert contract_tests(checkout, "test_corpora_contract.py", "duet") >= 8


@pytest.mark.slow
def test_model_added_as_described_meets_the_contract(checkout: Path) -> None:
    follow("adding-a-model.md", checkout)
    assert contract_tests(checkout, "", "frame_mean or has_a_recipe") >= 20
