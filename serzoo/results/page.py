"""The page of results: tables of all runs in a ledger, every number computed from their predictions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serzoo import strict_yaml
from serzoo.errors import ConfigError, DataError
from serzoo.experiments.compare_runs import compare_runs
from serzoo.experiments.published_figures import PUBLISHED, Published
from serzoo.experiments.run_folder import KEPT
from serzoo.experiments.statistics import COMPARED, COVERAGE, FEW_SPEAKERS, intervals, marked, percent
from serzoo.experiments.stored_run import REPORT, TITLES, StoredRun, run_folders
from serzoo.files import local_path
from serzoo.metrics import HEADLINE
from serzoo.results.entries import LEDGER, Ledger, NotRun, Row, StudyEntry, read_ledger
from serzoo.tables import markdown_table

_NONE = "-"

_WORDING = strict_yaml.read(Path(__file__).with_suffix(".yaml"))
_SECTIONS = {True: "unseen", False: "seen", None: "unknown"}
"""The sections of the page by :attr:`StoredRun.speaker_independent`."""


@dataclass(frozen=True)
class Line:
    """A run in a table, with its row or study in the ledger, and the published result to compare with, if any."""

    title: str
    run: StoredRun
    entry: Row | StudyEntry
    published: Published | None


Opener = Callable[[Path], StoredRun]
"""Opens a run; a cached one reads each run once for check and page."""


def make_page(folder: Path, open_run: Opener | None = None) -> str:
    """Return the page of a folder of run folders with its ledger, as Markdown.

    Args:
        folder: with :data:`~serzoo.results.entries.LEDGER`; the page's links are relative to its parent.
        open_run: opens a run folder; None for :meth:`StoredRun.open`.

    Raises:
        ConfigError: the ledger cannot be read, or compares seen with unseen speakers.
        DataError: a run folder in it is missing or damaged.
    """
    open_run, folder = open_run or cache(StoredRun.open), with_name(folder)
    ledger = read_ledger(folder / LEDGER)
    lines = [line for entry in ledger.entries for line in _lines(entry, folder, open_run)]
    most, *fewer = COVERAGE.items()
    coverage = [f"{most[1]} of 100 contained it with {most[0]} speakers", *(f"{c} with {n}" for n, c in fewer)]
    parts = [
        _WORDING["head"].format(folder=folder.name, few=FEW_SPEAKERS, coverage=", ".join(coverage)),
        *(part for kind in _SECTIONS for part in _section(kind, lines, folder)),
        *_compared(ledger, folder, open_run),
        *_not_run(ledger.not_run),
        *_made(ledger, lines),
    ]
    return "\n".join(parts)


def with_name(folder: Path) -> Path:
    """Return a folder's full path, so that ``.`` has a name too."""
    return Path(os.path.abspath(local_path(folder)))


def _lines(entry: Row | StudyEntry, folder: Path, open_run: Opener) -> Iterator[Line]:
    """Yield the runs of an entry, those with a published result first."""
    if isinstance(entry, Row):
        found, published = {entry.title: folder / entry.run}, {entry.title: entry.published or ""}
    else:
        root, published = folder / entry.folder, dict(entry.published)
        found = {path.relative_to(root).as_posix(): path for path in run_folders(root)}
    for name in dict.fromkeys([*published, *found]):
        if name not in found:
            raise DataError(f"{folder / entry.folder / name} has no {KEPT} or {REPORT}, but the ledger names it.")
        run, paper = open_run(found[name]), PUBLISHED.get(published.get(name, ""))
        if paper is not None and paper.speaker_independent != run.speaker_independent:
            kinds = {True: "speaker-independent", False: "speaker-dependent", None: "on unknown speakers"}
            own, theirs = kinds[run.speaker_independent], kinds[paper.speaker_independent]
            raise ConfigError(f"{run.path} is {own}, but {_cited(paper)} is {theirs}; leave published out.")
        yield Line(name, run, entry, paper)


def _section(kind: bool | None, all_lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """Yield the tables of the runs of one kind of speakers: single runs first, then each study."""
    lines = [line for line in all_lines if line.run.speaker_independent is kind]
    if not lines:
        return
    yield _WORDING["sections"][_SECTIONS[kind]]
    single = [line for line in lines if isinstance(line.entry, Row)]
    if single:
        yield from _tables(single, folder)
    for study in dict.fromkeys(line.entry.folder for line in lines if isinstance(line.entry, StudyEntry)):
        own = [line for line in lines if line.entry.folder == study]
        yield f"### {own[0].entry.title}\n"
        yield from _tables(own, folder)


def _tables(lines: Sequence[Line], folder: Path) -> Iterator[str]:
    """Yield the table of means over folds, and that of pooled scores with their intervals."""
    yield markdown_table(
        ["run", "corpus", "protocol", "folds", *TITLES.values(), "paper", "gap"],
        [
            [f"[{line.title}]({_place(line.run.path, folder)})", *_task(line), *_means(line), *_against(line)]
            for line in lines
        ],
    )
    yield markdown_table(
        ["run", "speakers", "clips", *(f"{title}, 95 %" for title in TITLES.values())],
        [[line.title, *_pooled(line.run)] for line in lines],
    )


def _place(path: Path, folder: Path) -> str:
    """Return a run folder's path relative to the page."""
    return f"{folder.name}/{path.relative_to(folder).as_posix()}"


def _task(line: Line) -> list[str]:
    """Return corpus and classes, the protocol, and the number of its folds that are done."""
    recipe, n_folds = line.run.recipe, line.run.report["n_folds"]
    way = " and " if line.run.protocol.tests_on_both else " to "
    corpus = way.join(filter(None, [recipe["corpus"], recipe.get("test_corpus")]))
    classes = "classes" if line.run.target == "label" else f"{line.run.target}s"
    done = len(line.run.folds)
    return [f"{corpus}, {len(line.run.class_names)} {classes}", line.run.report["protocol"], f"{done} of {n_folds}"]


def _means(line: Line) -> list[str]:
    """Return each score's mean over folds, with its standard deviation if there are several."""
    summary = line.run.summary
    return [
        percent(summary.mean[name]) + (f" ± {percent(summary.std[name])}" if len(summary.folds) > 1 else "")
        for name in HEADLINE
    ]


def _against(line: Line) -> tuple[str, str]:
    """Return the paper's scores, and ours minus the paper's."""
    if line.published is None:
        return _NONE, _NONE
    ours = [line.run.summary.mean[name] for name in HEADLINE]
    pairs = zip(ours, line.published.scores, strict=True)
    gaps = [_NONE if paper is None else percent(own - paper / 100, "+") for own, paper in pairs]
    return _figures(line.published), " / ".join(gaps)


def _figures(published: Published) -> str:
    return " / ".join(_NONE if score is None else f"{score:.2f}" for score in published.scores)


def _pooled(run: StoredRun) -> list[str]:
    """Return the numbers of speakers and clips and the pooled scores, with intervals where these exist."""
    try:
        counts = run.speaker_counts()
        found = intervals(counts)
    except DataError:  # one speaker, unknown speakers, or speakers as classes: nothing to resample
        pooled = run.summary.pooled
        return [_NONE, str(pooled.n), *(percent(getattr(pooled, name)) for name in HEADLINE)]
    return [marked(len(counts.speakers)), str(counts.n_clips), *(str(found[name]) for name in HEADLINE)]


def _compared(ledger: Ledger, folder: Path, open_run: Opener) -> Iterator[str]:
    """Yield the table of comparisons."""
    if not ledger.pairs:
        return
    rows = []
    for pair in ledger.pairs:
        paths = [folder / pair.first, folder / pair.second]
        found = compare_runs(*map(open_run, paths), shared_folds=pair.shared_folds)
        links = [f"[{path.relative_to(folder).as_posix()}]({_place(path, folder)})" for path in paths]
        compared = found.comparison
        size = f"{len(found.folds)}, {marked(compared.n_speakers)}, {compared.n_clips}"
        differences = map(str, compared.differences.values())
        rows.append([pair.question, *links, size, f"{compared.smallest_p:.2g}", *differences])
    yield _WORDING["compared"].format(few=FEW_SPEAKERS)
    head = ["", "first", "second", "folds, speakers, clips", "least p", *(TITLES[name] for name in COMPARED)]
    yield markdown_table(head, rows)


def _not_run(entries: Sequence[NotRun]) -> Iterator[str]:
    """Yield the table of runs that were not made."""
    rows = []
    for entry in entries:
        paper = _figures(PUBLISHED[entry.published]) if entry.published else _NONE
        rows.append([entry.title, f"`{entry.command}`", entry.cost, paper, entry.reason])
    if rows:
        yield "## Not run\n"
        yield markdown_table(["run", "command", "estimated cost", "paper", ""], rows)


def _made(ledger: Ledger, lines: Sequence[Line]) -> Iterator[str]:
    """Yield for each entry the command, machine, settings and software, and the reason for the gap."""
    yield "## How each was made\n"
    for entry in ledger.entries:
        own = [line for line in lines if line.entry is entry]
        systems: dict[str, list[str]] = {}
        for line in own:
            if line.published:
                systems.setdefault(_cited(line.published), []).append(line.published.system)
        facts = {
            "command": f"`{entry.command}`",
            "hardware": entry.hardware,
            "model": _distinct(own, _model),
            "selection": _distinct(own, lambda run: run.report["selection"]),
            "epochs": _distinct(own, StoredRun.epochs),
            "seeds": _distinct(own, lambda run: ", ".join(map(str, run.seeds))),
            "runs": _distinct(own, _missing),
            "leaks": _distinct(own, lambda run: run.report["leakage"]["summary"]),
            "seen": _distinct(own, _seen),
            "software": "; ".join(sorted({text for line in own for text in line.run.software()})),
            "paper": " · ".join(f"{where}: {', '.join(names)}" for where, names in systems.items()),
            "gap": entry.gap,
            "more": entry.more,
        }
        listed = "".join(f"* {name}: {fact}\n" for name, fact in facts.items() if fact)
        yield f"**{entry.title}**\n\n{listed}"


def _distinct(lines: Sequence[Line], fact: Callable[[StoredRun], str]) -> str:
    """Return the distinct values of a fact of several runs."""
    return " · ".join(dict.fromkeys(text for text in (fact(line.run) for line in lines) if text))


def _model(run: StoredRun) -> str:
    """Return the model and the arguments in its recipe."""
    model = run.recipe["model"]
    arguments = ", ".join(f"{name} {value}" for name, value in model["arguments"].items())
    return f"`{model['name']}`" + (f" ({arguments})" if arguments else "")


def _missing(run: StoredRun) -> str:
    """Describe how many runs of the folds are done, if some are missing."""
    wanted = len(run.folds) * len(run.seeds)
    return f"only {len(run.runs)} of the {wanted} runs of these folds" if len(run.runs) < wanted else ""


def _seen(run: StoredRun) -> str:
    """Describe how many test recordings were in the training of the networks that a run depends on."""
    counts = run.report.get("seen") or {}
    return ", ".join(f"{name} {'not known' if n is None else f'{n} test recordings'}" for name, n in counts.items())


def _cited(published: Published) -> str:
    """Return paper, table and protocol of a published result."""
    where = f"{published.paper}, {published.table}" if published.table else published.paper
    return f"{where} ({published.protocol})"
