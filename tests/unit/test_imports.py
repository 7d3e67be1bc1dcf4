"""The rules of docs/architecture.md on who may import whom."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import serzoo

PACKAGE = Path(serzoo.__file__).parent

LEVELS = (
    {"errors", "keras_names", "memory"},
    {"checks", "files", "registry", "strict_yaml", "tables"},
    {"labels", "strict_data"},
    {"features", "layers", "metrics", "predictions", "settings"},
    {"data", "models"},
    {"recipes", "weights"},
    {"classical"},
    {"classifier"},
    {"zoo"},
    {"exporters", "training"},
    {"plots"},
    {"experiments"},
    {"profiling", "results"},
    {"cli"},
)
"""A module may import what stands on a level before its own, and what is in its own package."""

ANY_BACKEND = ("models/", "layers/", "features/frontend.py")
"""What runs on every Keras backend and so imports none of them."""

BACKENDS = {"tensorflow", "jax", "torch"}
TENSORFLOW_ONLY = ("data/pipeline.py", "exporters/", "cli/quiet.py", "profiling/measuring.py")
"""Where TensorFlow is imported: tf.data, SavedModel, where its notes at start are silenced and where it is measured."""

JAX_ONLY = ("profiling/measuring.py", "training/jax_folds.py")
"""Where JAX is imported: where it is measured, and where many folds are trained as one program."""

TOP = ("serzoo", "serzoo.__version__")
"""``serzoo/__init__.py`` imports nothing when it is imported, so anything may import it."""

LONGEST_FILE = 450

HEAVY = BACKENDS | {"keras", "pandas", "sklearn", "scipy", "librosa", "matplotlib", "h5py"}


@dataclass(frozen=True)
class Import:
    """One import: the file below the package, what it imports, and whether a function does."""

    file: str
    target: str
    deferred: bool

    @property
    def package(self) -> str:
        return self.target.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file} imports {self.target}"


def imports_of(path: Path) -> Iterator[Import]:
    """Yield the imports of a file; those of functions and those for type checkers are deferred."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            deferred = True
        if isinstance(node, ast.Import):
            yield from (Import(file, alias.name, deferred) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} line {node.lineno}: imports are written out from serzoo on"
            yield from (Import(file, f"{node.module}.{alias.name}", deferred) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, deferred or isinstance(node, ast.FunctionDef | ast.Lambda))

    file = path.relative_to(PACKAGE).as_posix()
    yield from visit(ast.parse(path.read_text(encoding="utf-8")), deferred=False)


IMPORTS = [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


MODULES_OF_FILES = {
    path.relative_to(PACKAGE).as_posix(): ".".join(
        ("serzoo", *path.relative_to(PACKAGE).with_suffix("").parts)
    ).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}
MODULES = set(MODULES_OF_FILES.values())


def module_of(target: str) -> str | None:
    """Return the module of serzoo that ``target``, a module or a name in one, belongs to; None for other packages."""
    while target and target not in MODULES:
        target = target.rpartition(".")[0]
    return target or None


def reachable(graph: dict[str, set[str]], module: str) -> set[str]:
    """Return the modules that ``module`` imports, directly or by way of others."""
    found: set[str] = set()
    left = list(graph[module])
    while left:
        following = left.pop()
        if following not in found:
            found.add(following)
            left += graph[following]
    return found


def part(name: str) -> str:
    """Return the part of serzoo that a file (data/audio.py) or module (serzoo.data.audio) belongs to."""
    return name.removeprefix("serzoo.").replace("/", ".").split(".")[0]


def level(name: str) -> int:
    return next(index for index, names in enumerate(LEVELS) if name in names)


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def test_every_part_has_a_level() -> None:
    parts = {part(path.relative_to(PACKAGE).with_suffix("").as_posix()) for path in PACKAGE.rglob("*.py")}
    assert parts - {"__init__"} == set().union(*LEVELS)


def test_levels_are_those_of_the_documentation() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    for number, names in enumerate(LEVELS, start=1):
        assert f"\n{number}. {' '.join(f'`{name}`' for name in sorted(names))}\n" in text


def test_imports_point_one_way() -> None:
    inside = [found for found in IMPORTS if found.package == "serzoo" and found.target not in TOP]
    steps = {found: (part(found.file), part(found.target)) for found in inside if found.file != "__init__.py"}
    assert len(steps) > 500
    upward = [found for found, (own, other) in steps.items() if own != other and level(own) <= level(other)]
    assert [str(found) for found in upward] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in IMPORTS:
        module = MODULES_OF_FILES[found.file]
        imported = module_of(found.target)
        if imported not in (None, module, "serzoo") and module != "serzoo":
            graph[module].add(str(imported))
    with_circle = [module for module in graph if module in reachable(graph, module)]
    assert with_circle == []


def test_no_two_modules_or_classes_have_one_name() -> None:
    modules = Counter(path.stem for path in PACKAGE.rglob("*.py") if path.stem != "__init__")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    classes = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for counts in (modules, classes) for name, count in counts.items() if count > 1] == []


def test_long_files_say_why() -> None:
    """A file of more than 450 lines has its reason in its docstring, or is split."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            assert "one file" in (ast.get_docstring(ast.parse(text)) or ""), path.relative_to(PACKAGE)


def test_models_and_front_end_run_on_every_backend() -> None:
    theirs = [found for found in IMPORTS if found.file.startswith(ANY_BACKEND)]
    assert len({found.file for found in theirs}) >= 6
    assert [str(found) for found in theirs if found.package in BACKENDS] == []
    at_import = {found.package for found in theirs if not found.deferred} - sys.stdlib_module_names
    assert at_import == {"keras", "numpy", "serzoo"}


def test_tensorflow_is_imported_where_it_is_needed_only() -> None:
    users = {found.file for found in IMPORTS if found.package.startswith("tensorflow")}
    assert "data/pipeline.py" in users
    assert [file for file in users if not file.startswith(TENSORFLOW_ONLY)] == []
    assert {found.file for found in IMPORTS if found.package == "jax"} == set(JAX_ONLY)
    assert not [str(found) for found in IMPORTS if found.package == "torch"]


def test_what_is_imported_is_declared() -> None:
    """What another package happens to bring along may be gone with that package's next version."""
    setup = ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
    needed = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    declared = {distribution.lower() for distribution in re.findall(r"^[\w.-]+", needed, flags=re.MULTILINE)}
    distributions = packages_distributions()
    theirs = {found.package for found in IMPORTS} - sys.stdlib_module_names - {"serzoo"}
    assert len(theirs) >= 10
    assert [
        package
        for package in sorted(theirs & distributions.keys())
        if not declared & {distribution.lower() for distribution in distributions[package]}
    ] == []


@pytest.mark.parametrize(
    "code",
    [
        "import serzoo",
        "import serzoo.cli, serzoo.cli.app",
        "import serzoo; serzoo.list_models()",
        "import serzoo.weights.store as store; [store.pretrained_file(name) for name in store.list_pretrained()]",
        "from serzoo.recipes import list_recipes, load_recipe; [load_recipe(name) for name in list_recipes()]",
        "import serzoo.data, serzoo.data.splits, serzoo.data.leakage, serzoo.data.verify",
        "import serzoo.results.check, serzoo.experiments.compare_runs, serzoo.results.keep",
    ],
)
def test_light_paths_load_nothing_heavy(code: str) -> None:
    heavy = f"import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert run(f"{code}\n{heavy}") == "[]"


def test_importing_serzoo_takes_no_time() -> None:
    clock = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    assert min(float(run(clock.format("import serzoo"))) for _ in range(5)) < 0.3


def test_public_names_are_there() -> None:
    for name in serzoo.__all__:
        assert getattr(serzoo, name) is not None
    assert set(serzoo.__all__) <= set(dir(serzoo))
    with pytest.raises(AttributeError, match=r"serzoo attribute '?biuld"):
        serzoo.biuld  # noqa: B018
