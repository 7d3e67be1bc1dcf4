"""The ledger, its page, and the check that finds every wrong number and every stray run folder."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serzoo.data.leakage import LeakageReport, Overlap
from serzoo.errors import ConfigError, DataError, SerzooError
from serzoo.experiments.compare_runs import compare_runs
from serzoo.experiments.gender_systems import SYSTEMS
from serzoo.experiments.published_figures import PUBLISHED
from serzoo.experiments.run_check import differences
from serzoo.experiments.run_folder import RunFolder, read_predictions, score_predictions, write_table
from serzoo.experiments.statistics import COVERAGE
from serzoo.experiments.stored_run import StoredRun, run_folders
from serzoo.metrics import summarise
from serzoo.recipes import load_recipe
from serzoo.results.check import not_checked, page_of, problems
from serzoo.results.entries import read_ledger
from serzoo.results.keep import keep
from serzoo.results.page import make_page

CLASSES = ("angry", "happy", "sad")
SPEAKERS = tuple(f"{number:02d}" for number in range(1, 13))
LEDGER = """
rows:
  - title: One | network
    run: first
    command: serzoo cv timnet-ravdess
    hardware: a machine
    published: timnet-300/ravdess
    gap: Made up.
    more: "[elsewhere](#there)"
  - {title: Another, run: second, command: serzoo cv other, hardware: a machine}
studies:
  - title: A study
    folder: study
    command: serzoo study frozen
    hardware: a machine
    published: {b: frozen/ravdess/mfcc-svc}
    gap: Made up, too.
pairs:
  - {question: Which is better, first: first, second: second}
not_run:
  - {title: A large one, command: serzoo cv tbdm-ravdess, cost: a week, published: tbdm-300/ravdess}
"""


def predictions(fold, seed, accuracy):
    """A table of predictions of a fold: a clip per speaker and class, the same clips for each seed."""
    random = np.random.default_rng([fold, seed])
    labels = np.tile(CLASSES, len(SPEAKERS))
    right = random.random(len(labels)) < accuracy
    return pd.DataFrame(
        {
            "clip": [f"fold{fold}-{number}.wav" for number in range(len(labels))],
            "speaker": np.repeat(SPEAKERS, len(CLASSES)),
            "label": labels,
            "prediction": np.where(right, labels, random.choice(CLASSES, len(labels))),
        }
    )


def make_run(path, n_folds=2, n_seeds=1, accuracy=0.7, seed=0, model="timnet", independent=False, **recipe):
    """Write a run folder as a cross-validation does, its predictions made up."""
    folder = RunFolder(path)
    base = load_recipe(f"{model}-ravdess" + ("-mfcc" if model == "svc" else "")).to_dict()
    base = {**base, "repeats": n_seeds, **recipe}
    first = base["training"]["seed"]
    names = [
        [f"fold{fold:02d}" + (f"-seed{first + number}" if number else "") for number in range(n_seeds)]
        for fold in range(1, n_folds + 1)
    ]
    scores = []
    for fold, runs in enumerate(names):
        for number, name in enumerate(runs):
            folder.write_predictions(name, predictions(fold, seed + number, accuracy))
            (path / name / "history.csv").write_text("epoch,loss\n" + "1,0.5\n" * base["training"]["epochs"])
            environment = {"python": "3.11", "backend": "jax", "packages": {"jax": "1.2", "keras": "3.15"}}
            folder.write_json(f"{name}/environment.json", environment)
            (path / name / "model.keras").write_text("weights")
            (path / name / "provenance.txt").write_text("hashes")
        scores.append([score_predictions(path / name / "predictions.csv", CLASSES) for name in runs])
    seen = () if independent else ("01",)
    overlaps = [Overlap(runs[0], "train", "test", seen, SPEAKERS, ("dogs",), ("dogs", "kids"), ()) for runs in names]
    leakage = LeakageReport(tuple(overlaps), 72, 0).to_dict()
    report = {
        "recipe": base,
        "protocol": base["protocol"],
        "speaker_independent": independent,
        "selection": base["training"]["selection"],
        "fold_names": [runs[0] for runs in names],
        "run_names": names,
        "n_folds": 10,
        "scores": summarise(scores).to_dict(),
        "leakage": leakage,
    }
    (path / "recipe.yaml").write_text(load_recipe(f"{model}-ravdess" + ("-mfcc" if model == "svc" else "")).to_yaml())
    folder.write_json("data.json", {"corpus": "ravdess"})
    folder.write_json("leakage.json", leakage)
    folder.write_json("report.json", report)
    return path


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A folder of results with its ledger and its page next to it, to copy."""
    folder = tmp_path_factory.mktemp("untouched") / "results"
    make_run(folder / "first")
    make_run(folder / "second", accuracy=0.9, seed=1)
    make_run(folder / "study" / "a", model="svc", independent=True)
    make_run(folder / "study" / "b", model="svc", accuracy=0.5)
    (folder / "ledger.yaml").write_text(LEDGER)
    page_of(folder).write_text(make_page(folder))
    return folder


@pytest.fixture
def results(untouched, tmp_path):
    """A folder of results with its ledger and its page next to it, which a test may change."""
    shutil.copytree(untouched.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results"


def test_a_page_that_follows_from_the_predictions_has_no_problems(results):
    assert problems(results) == []


def test_the_page_has_every_run_with_its_numbers(results):
    page = page_of(results).read_text()
    report = json.loads((results / "first" / "report.json").read_text())
    mean, std = (report["scores"][name] for name in ("mean", "std"))
    cells = [f"{100 * mean[name]:.2f} ± {100 * std[name]:.2f}" for name in ("uar", "war", "weighted_f1")]
    gaps = [f"{100 * mean[name] - figure:+.2f}" for name, figure in zip(mean, (88.00, 89.30, 88.10), strict=True)]
    row = (
        f"| [One \\| network](results/first) | ravdess, 3 classes | random10-seed46-v1 | 2 of 10 | {' | '.join(cells)} "
    )
    assert row + f"| 88.00 / 89.30 / 88.10 | {' / '.join(gaps)} |" in page
    assert "| One \\| network | 12 † | 72 | " in page
    assert all(f"{percent} with {speakers}" in page for speakers, percent in list(COVERAGE.items())[1:])
    assert "* gap: Made up.\n* more: [elsewhere](#there)\n" in page
    assert "* epochs: 500\n* seeds: 46\n" in page
    assert "software: Python 3.11, jax 1.2, keras 3.15" in page
    assert "| A large one | `serzoo cv tbdm-ravdess` | a week | 91.60 / 90.97 / 91.02 |  |" in page


def test_seen_and_unseen_speakers_are_in_sections_of_their_own(results):
    page = page_of(results).read_text()
    independent, dependent = page.split("## Seen speakers")
    assert "[a](results/study/a)" in independent
    assert "[a](results/study/a)" not in dependent
    assert "[b](results/study/b)" in dependent
    assert "[b](results/study/b)" not in independent
    assert "### A study" in independent
    assert "### A study" in dependent


def test_unknown_speakers_are_in_a_section_of_their_own(results):
    for name in ("report.json", "leakage.json"):
        path = results / "study" / "a" / name
        path.write_text(path.read_text().replace('"speaker_independent": true', '"speaker_independent": null'))
    page = make_page(results)
    known, unknown = page.split("## Unknown speakers")
    assert "[a](results/study/a)" not in known
    assert "[a](results/study/a)" in unknown.split("## ")[0] + unknown.split("### ")[1]
    assert "## Unseen speakers" not in page
    change(results / "ledger.yaml", "{b: ", "{a: ")
    with pytest.raises(ConfigError, match=r"study/a is on unknown speakers, but .* is speaker-dependent"):
        make_page(results)


def test_pairs_are_compared(results):
    found = compare_runs(*(StoredRun.open(results / name) for name in ("first", "second")))
    cells = " | ".join(str(difference) for difference in found.comparison.differences.values())
    assert (
        f"| Which is better | [first](results/first) | [second](results/second) | 2, 12 †, 72 | 0.00049 | {cells} |"
        in (page_of(results).read_text())
    )
    assert "where interval\nand p disagree, p decides" in page_of(results).read_text()
    assert "72 test clips of 12 † speakers, 2 folds together." in str(found)
    assert "its smallest possible value is 0.00049." in str(found)
    assert "† Below 30 speakers intervals are too narrow; where interval and p disagree, p decides." in str(found)


def test_early_stopping_and_missing_seeds_show(tmp_path):
    make_run(tmp_path / "first", n_seeds=3)
    report = json.loads((tmp_path / "first" / "report.json").read_text())
    report["recipe"]["repeats"] = 4
    (tmp_path / "first" / "report.json").write_text(json.dumps(report))
    (tmp_path / "first" / "fold01" / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.5\n")
    (tmp_path / "ledger.yaml").write_text("rows: [{title: Row, run: first, command: a, hardware: b}]")
    page = make_page(tmp_path)
    assert "* epochs: 2 to 500 of at most 500, stopped early\n" in page
    assert "* seeds: 46, 47, 48, 49\n" in page
    assert "* runs: only 6 of the 8 runs of these folds\n" in page


def test_a_classifier_of_speakers_has_no_interval_over_speakers(tmp_path):
    make_run(tmp_path / "first", target="speaker")
    (tmp_path / "ledger.yaml").write_text("rows: [{title: Row, run: first, command: a, hardware: b}]")
    assert "| Row | - | 72 | " in make_page(tmp_path)


# The check -----------------------------------------------------------------------------------------------------------


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_changed_prediction_names_run_fold_and_both_values(results):
    table = results / "first" / "fold02" / "predictions.csv"
    before = score_predictions(table, CLASSES)
    right = next(line for line in table.read_text().splitlines() if line.endswith("sad,sad"))
    change(table, right, right.removesuffix("sad") + "angry")
    after = score_predictions(table, CLASSES)
    found = problems(results)
    both = f"report.json has {100 * before.uar:.4f}, the predictions give {100 * after.uar:.4f}"
    assert f"first fold02: UAR: {both}" in found
    assert any(line.startswith("first mean: WAR: ") for line in found)
    assert any(line.startswith("first pooled: recall: sad: ") for line in found)
    assert not any("fold01" in line or line.startswith("second") for line in found)


@pytest.mark.parametrize("score", ["mean", "std"])
def test_a_score_typed_into_a_report_is_found(results, score):
    path = results / "second" / "report.json"
    report = json.loads(path.read_text())
    report["scores"][score]["war"] += 0.001
    path.write_text(json.dumps(report))
    (line,) = problems(results)
    assert line.startswith(f"second {score}: WAR: report.json has ")


def test_a_number_typed_into_the_page_is_found(results):
    change(page_of(results), "2 of 10", "3 of 10")
    old, new = problems(results)
    assert old.startswith("results.md: it has ")
    assert "3 of 10" in old
    assert new.startswith("results.md: it should have ")
    page_of(results).unlink()
    assert "No such file" in problems(results)[0]


def test_line_ends_count(results):
    page_of(results).write_bytes(page_of(results).read_bytes().replace(b"\n", b"\r\n"))
    assert problems(results) == ["results.md: its line ends or its last line differ; write it again"]


def test_missing_predictions_are_found(results):
    (results / "first" / "fold01" / "predictions.csv").unlink()
    assert problems(results) == ["first fold01: predictions.csv is missing"]
    with pytest.raises(DataError, match=r"fold01/predictions\.csv is missing"):
        make_page(results)


def test_predictions_that_no_report_counts_are_found(results):
    shutil.copytree(results / "first" / "fold01", results / "first" / "fold03")
    assert problems(results) == ["first fold03: has predictions that report.json does not count"]


def test_run_folders_and_rows_belong_together(results):
    shutil.copytree(results / "first", results / "stray")
    shutil.rmtree(results / "second")
    with (results / "ledger.yaml").open("a") as ledger:
        ledger.write("# more\n")
    change(results / "ledger.yaml", "studies:\n", "  - {title: x, run: study/a, command: c, hardware: h}\nstudies:\n")
    assert problems(results) == [
        "second: has a row, but no run folder",
        "stray: has no row in ledger.yaml",
        "study/a: has two rows, study/a and study",
    ]


def test_another_recipe_or_leakage_is_found(results):
    change(results / "first" / "recipe.yaml", "epochs: 500", "epochs: 400")
    change(results / "first" / "leakage.json", "texts shared: 1", "texts shared: 0")
    assert problems(results) == [
        "first: recipe.yaml is not the recipe of report.json",
        "first: leakage.json is not the leakage of report.json",
    ]


@pytest.mark.parametrize(
    "damage", ["", "[]", "[" * 100_000, '{"recipe": 1}', '{"recipe": {"model": []}}'], ids=str.__len__
)
def test_a_damaged_report_is_one_line(results, damage):
    (results / "first" / "report.json").write_text(damage)
    (line,) = problems(results)
    assert line.startswith("first: ")
    assert "damaged" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report["scores"]["folds"].pop(),
        lambda report: report["scores"]["folds"][1].append(report["scores"]["folds"][1][0]),
        lambda report: report["scores"].pop("std"),
        lambda report: report["scores"]["mean"].update(uar="high"),
        lambda report: report["scores"]["pooled"].update(recall=3),
        lambda report: report["leakage"].pop("overlaps"),
    ],
)
def test_a_report_of_another_form_is_one_line(results, damage):
    path = results / "first" / "report.json"
    report = json.loads(path.read_text())
    damage(report)
    path.write_text(json.dumps(report))
    (results / "first" / "leakage.json").unlink()
    assert problems(results) == [
        "first: report.json is damaged; its scores or leaks are not in the form that serzoo writes"
    ]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["run_names"], [[], ["fold02"]], "run_names is "),
        (["run_names"], ["fold01", "fold02"], "run_names is "),
        (["run_names"], [["fold01"], ["fold01"]], "run_names is "),
        (["run_names"], [["../first/fold01"], ["fold02"]], "no names of folders"),
        (["run_names"], [], "run_names is "),
        (["fold_names"], [["x"], "fold02"], "fold_names is "),
        (["fold_names"], ["fold01", "fold01"], "fold_names is "),
        (["scores", "pooled", "class_names"], [["angry"]], "class_names is "),
        (["recipe", "repeats"], "3", "recipe.repeats is '3'"),
        (["recipe", "repeats"], 0, "recipe.repeats is 0"),
        (["recipe", "target"], ["label"], "recipe.target is "),
        (["recipe", "test_corpus"], 3, "recipe.test_corpus is 3"),
        (["recipe", "training", "seed"], True, "recipe.training.seed is True"),
        (["leakage", "speaker_independent"], "yes", "leakage.speaker_independent is 'yes'"),
        (["seen"], [3], "seen is [3]"),
    ],
)
def test_a_report_with_parts_of_another_type_is_one_line(results, keys, value, message):
    path = results / "first" / "report.json"
    report = json.loads(path.read_text())
    part = report
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(report))
    for use in (StoredRun.open, lambda folder: keep(folder, folder.parent.parent / "kept")):
        with pytest.raises(DataError, match=r"report\.json is damaged: ") as caught:
            use(path.parent)
        assert message in str(caught.value)
    assert "report.json is damaged: " in "".join(problems(results))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("speaker", "talker", "no column speaker"), ("p_angry", "p_angry", "not only numbers in the column p_angry")],
)
def test_predictions_of_another_form_are_one_line(results, old, new, message):
    table = predictions(2, 0, 0.7).assign(p_angry=["much"] + ["0.5"] * 35).rename(columns={old: new})
    RunFolder(results / "first").write_predictions("fold02", table)
    with pytest.raises(DataError, match=rf"first/fold02/predictions\.csv is damaged .*{message}"):
        make_page(results)
    with pytest.raises(DataError, match=message):
        compare_runs(*(StoredRun.open(results / name) for name in ("first", "second")))
    assert message in "".join(problems(results))


def test_an_environment_of_another_form_has_no_versions(tmp_path):
    make_run(tmp_path / "first")
    for fold in ("fold01", "fold02"):
        (tmp_path / "first" / fold / "environment.json").write_text('{"packages": 3}')
    assert StoredRun.open(tmp_path / "first").software() == ["Python None"]


def test_protocol_and_selection_are_the_recipes(results):
    for key, value in (("protocol", "loso-v1"), ("selection", "best-validation-uar")):
        path = results / "second" / "report.json"
        report = json.loads(path.read_text())
        usual, report[key] = report[key], value
        path.write_text(json.dumps(report))
        assert problems(results)[0] == f"second: report.json has {key} {value}, its recipe {usual}"
        path.write_text(json.dumps({**report, key: usual}))


def test_test_speakers_that_the_leakage_lacks_are_found(results):
    change(results / "study" / "a" / "fold02" / "predictions.csv", ",12,angry", ",13,angry")
    assert problems(results) == ["study/a fold02: speaker 13 is in only one of predictions and leakage of report.json"]


def test_speaker_independence_follows_from_the_overlaps(results):
    for name in ("report.json", "leakage.json"):
        change(results / "first" / name, '"speaker_independent": false,\n', '"speaker_independent": true,\n')
    path = results / "first" / "report.json"
    report = json.loads(path.read_text())
    report["leakage"]["speaker_independent"] = True
    path.write_text(json.dumps(report))
    assert problems(results) == ["first: leakage: speaker_independent is True, by its overlaps False"]


def rewrite(path, change):
    """Change a run's report, and its leakage with it."""
    report = json.loads((path / "report.json").read_text())
    change(report)
    (path / "report.json").write_text(json.dumps(report))
    (path / "leakage.json").write_text(json.dumps(report["leakage"]))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda report: report.update(n_folds=1), "n_folds is 1, but 2 are done; run serzoo cv again."),
        (
            lambda report: report["leakage"].update(summary="no leak at all"),
            "leakage: summary is 'no leak at all', by its overlaps 'speaker-independent: 0 of 12 test speakers are in",
        ),
        (
            lambda report: report["leakage"].update(n_unknown_speakers=3),
            "leakage: speaker_independent is True, by its overlaps None",
        ),
        (lambda report: report["leakage"].update(speaker_independent=1), "leakage.speaker_independent is 1;"),
        (
            lambda report: report["leakage"].update(duplicates=[["a", "b"]]),
            "leakage: duplicates is [['a', 'b']], by its overlaps []",
        ),
    ],
    ids=["folds", "summary", "unknown", "no truth value", "duplicates"],
)
def test_leaks_and_number_of_folds_are_checked(results, change, line):
    rewrite(results / "study" / "a", change)
    found = problems(results)
    assert line in found[0], found


def test_test_clips_of_unknown_speakers_are_counted(results):
    path = results / "study" / "a" / "fold01" / "predictions.csv"
    change(path, ",01,", ",,")
    assert "study/a: leakage: n_unknown_speakers is 0, 1 are tested on" in problems(results)


def test_another_seeds_test_speakers_are_found(tmp_path):
    run = make_run(tmp_path / "run", n_seeds=2)
    path = run / "fold01-seed47" / "predictions.csv"
    path.write_text(path.read_text().replace(",12,", ",13,"))
    line = "run fold01-seed47: speaker 12 is in only one of predictions and leakage of report.json"
    assert list(differences(StoredRun.open(run), "run")) == [line]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"p_angry": 0.2, "p_happy": 0.3, "p_sad": 0.5}, "first fold01: a prediction is not the most probable class"),
        ({"p_angry": 0.2, "p_sad": 0.5}, "first fold01: predictions.csv lacks the probabilities of some class"),
        ({"p_angry": 0.4, "p_happy": 0.4, "p_sad": 0.4}, None),
    ],
)
def test_predictions_are_the_most_probable_classes(results, columns, line):
    path = results / "first" / "fold01" / "predictions.csv"
    pd.read_csv(path, dtype=str).assign(**columns).to_csv(path, index=False)
    assert problems(results) == ([line] if line else [])


@pytest.mark.parametrize("typed", ["---", "-- a claim", "++ a claim", "@@ -1 +1 @@", "a claim"])
def test_every_line_that_was_typed_into_the_page_is_found(results, typed):
    page = page_of(results)
    page.write_text(f"{page.read_text()}{typed}\n")
    assert problems(results) == [f"results.md: it has {typed}"]


def test_the_folder_may_be_the_current_one(results, monkeypatch):
    page = make_page(results)
    monkeypatch.chdir(results)
    assert make_page(Path()) == page
    assert problems(Path()) == []
    monkeypatch.chdir(results / "first")
    assert problems(Path("..")) == []


# Reading a ledger -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("published: timnet-300/", "published: timnet-30/", " line 3, rows.1: ", "Did you mean 'timnet-300/ravdess'"),
        ("    gap: Made up.\n", "", " line 3, rows.1: ", "published needs a gap"),
        ("rows:", "row:", " line 2, row: ", "Unknown key 'row'. Did you mean 'rows'"),
        ("    run: first\n", "    runs: first\n", " line 4, rows.1.runs: ", "Did you mean 'run'"),
        ("    run: first\n", "", " line 3, rows.1: ", "the key 'run' is missing"),
        ("run: second", "run: first", ": ", "first has two rows"),
        ("run: second", "run: /second", " line 10, rows.2: ", "no folder below the ledger's"),
        ("run: second", "run: ../second", " line 10, rows.2: ", "no folder below the ledger's"),
        (
            "run: second",
            "run: 2",
            " line 10: ",
            "rows.2.run is 2; it must be text (in quotes",
        ),
        ("{title: Another", "3\n  - {title: Another", " line 2: ", "rows.2 is 3; it must be a set of keys and values"),
        (
            "{b: frozen/ravdess/mfcc-svc}",
            "[b]",
            " line 16: ",
            "studies.1.published is ['b']; it must be a set of keys and values",
        ),
        ("b: frozen/ravdess/mfcc-svc", "b: 7", " line 16: ", "studies.1.published.b is 7; it must be text (in"),
        ("b: frozen/ravdess/mfcc-svc", "b: frozen/ravdess", " line 12, studies.1: ", "Unknown published result"),
        ("cost: a week", "cost: a week, gap: x", " line 21, not_run.1.gap: ", "Unknown key 'gap'"),
        (
            "second: second",
            "second: second, shared_folds: 1",
            " line 19: ",
            "pairs.1.shared_folds is 1; it must be",
        ),
        ("pairs:\n", "pairs: 3\nother:\n", " line 19, other: ", "Unknown key 'other'"),
        ("command: serzoo cv tbdm-ravdess,", "command: serzoo cv other,", ": ", "A large one is in not_run, but a row"),
    ],
)
def test_a_wrong_ledger_is_one_line(results, old, new, place, message):
    path = results / "ledger.yaml"
    change(path, old, new)
    with pytest.raises(SerzooError) as caught:
        read_ledger(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}{place}")
    assert "\n" not in str(caught.value)


def test_a_section_is_a_list_of_entries(tmp_path):
    for text in ("rows: 3", "rows: [3]", "3", ""):
        (tmp_path / "ledger.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"is (3|None); it must be a (list|set)"):
            read_ledger(tmp_path / "ledger.yaml")


def test_a_figure_on_speakers_of_another_kind_is_refused(results):
    change(results / "ledger.yaml", "timnet-300/ravdess", "reslstm-sa/ravdess")
    with pytest.raises(ConfigError, match=r"first is speaker-dependent, but arXiv .* is speaker-independent"):
        make_page(results)


def test_a_study_without_a_published_run_is_one_line(results):
    shutil.rmtree(results / "study" / "b")
    with pytest.raises(DataError, match=r"study/b has no run\.json or report\.json, but the ledger names it"):
        make_page(results)


# Comparing ------------------------------------------------------------------------------------------------------------


def test_runs_on_other_clips_are_refused(tmp_path):
    first, second, third = (make_run(tmp_path / name, n_folds=n) for name, n in (("a", 2), ("b", 2), ("c", 3)))
    open_run = StoredRun.open
    assert compare_runs(open_run(first), open_run(second)).folds == ("fold01", "fold02")
    with pytest.raises(DataError, match="fold03 is done in only one of them; --shared-folds compares"):
        compare_runs(open_run(first), open_run(third))
    shared = compare_runs(open_run(first), open_run(third), shared_folds=True)
    assert shared.comparison == compare_runs(open_run(first), open_run(second)).comparison
    change(second / "fold02" / "predictions.csv", "fold1-0.wav,01,angry", "fold1-0.wav,01,sad")
    with pytest.raises(DataError, match=r"in fold02, the test clip .* \(speaker 01, angry\) is not in all of them"):
        compare_runs(open_run(first), open_run(second))
    change(third / "report.json", '"sad"\n', '"bored"\n')
    with pytest.raises(DataError, match="their classes are angry, happy, sad and"):
        compare_runs(open_run(first), open_run(third))


def test_a_doubled_clip_is_named(tmp_path):
    first, second = (make_run(tmp_path / name) for name in ("a", "b"))
    path = second / "fold02" / "predictions.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[5] + "\n")
    name = r"in fold02, the test clip fold2-4\.wav .* is there 1 times in one of them and 2 times in another"
    with pytest.raises(DataError, match=name.replace("fold2-4", "fold1-4")):
        compare_runs(StoredRun.open(first), StoredRun.open(second))


def test_seeds_are_averaged_before_runs_are_compared(tmp_path):
    once, thrice = make_run(tmp_path / "once"), make_run(tmp_path / "thrice", n_seeds=3)
    runs = [StoredRun.open(path) for path in (once, thrice)]
    found = compare_runs(*runs).comparison
    wars = [np.mean([np.mean([scores.war for scores in fold]) for fold in run.summary.folds]) for run in runs]
    assert found.differences["war"].value == pytest.approx(wars[1] - wars[0])
    assert found.n_clips == 72


# Keeping --------------------------------------------------------------------------------------------------------------


def test_a_kept_run_has_two_files_with_all_of_it(tmp_path):
    run = make_run(tmp_path / "run", n_seeds=2)
    (run / "fold09").mkdir()
    (run / "fold09" / "state.npz").write_text("being trained")
    (run / "fold02" / "against1").mkdir()
    (run / "fold02" / "against1" / "history.csv").write_text("epoch,loss\n1,0.1000000000000000055\n")
    (run / "fold02" / "environment.json").write_text('{"python": "3.12"}')
    target = tmp_path / "kept"
    assert [path.relative_to(target).as_posix() for path in keep(run, target)] == ["predictions.csv.gz", "run.json"]
    live, kept = StoredRun.open(run), StoredRun.open(target)
    assert list(differences(kept, "kept")) == []
    assert (kept.report, kept.summary, kept.environments) == (live.report, live.summary, live.environments)
    assert kept.histories == live.histories
    assert kept.histories["fold02/against1/history.csv"] == {"epoch": [1], "loss": [0.1]}
    assert kept.trained_recipe() == live.trained_recipe()
    assert list(kept.tables) == ["fold01", "fold01-seed47", "fold02", "fold02-seed47"]
    for name, table in live.tables.items():
        pd.testing.assert_frame_equal(kept.tables[name], table)
    table = pd.read_csv(target / "predictions.csv.gz")
    assert list(table)[:3] == ["fold", "seed", "clip"]
    assert sorted(set(table["seed"])) == [46, 47]
    stored = json.loads((target / "run.json").read_text())
    assert [one["runs"] for one in stored["environments"]] == [["fold01", "fold01-seed47", "fold02-seed47"], ["fold02"]]
    with pytest.raises(ConfigError, match=r"kept is a kept run \(run\.json\), not a run folder to train in"):
        RunFolder.open(target, load_recipe("timnet-ravdess"), {})


def test_a_derived_run_is_kept_as_one(tmp_path):
    run = make_run(tmp_path / "run")
    for name in (
        "recipe.yaml",
        "data.json",
        "leakage.json",
        *(f"{fold}/environment.json" for fold in ("fold01", "fold02")),
    ):
        (run / name).unlink()
    (run / "system.json").write_text('{"system": "split:M", "trainings": ["a"]}')
    keep(run, tmp_path / "kept")
    keep(tmp_path / "kept", tmp_path / "again")
    kept = StoredRun.open(tmp_path / "again")
    assert (kept.derived, kept.software(), kept.kept["system"]["system"]) == (True, [], "split:M")
    assert kept.summary == StoredRun.open(run).summary
    for found in (kept, StoredRun.open(run)):
        with pytest.raises(DataError, match="holds predictions derived from other runs, not a training"):
            found.trained_recipe()


def damage_kept(path, change):
    """Rewrite the two files of a kept run: the content of run.json, and the table of predictions."""
    stored = json.loads((path / "run.json").read_text())
    table = pd.read_csv(path / "predictions.csv.gz", dtype=str, keep_default_na=False)
    changed = change(stored, table)
    (path / "run.json").write_text(json.dumps(stored))
    (table if changed is None else changed).to_csv(path / "predictions.csv.gz", index=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored, table: table[table["fold"] != "fold02"], "kept fold02: predictions.csv is missing"),
        (
            lambda stored, table: table.replace({"fold": {"fold02": "fold03"}}),
            "kept fold03: has predictions that run.json does not count",
        ),
        (
            lambda stored, table: table.drop(columns="seed"),
            "predictions.csv.gz is damaged or of another run (no column",
        ),
        (
            lambda stored, table: stored["report"]["scores"]["mean"].update(uar=0.5),
            "kept mean: UAR: run.json has 50.0000",
        ),
        (lambda stored, table: stored["leakage"].update(summary="none"), "kept: leakage: summary is 'none'"),
        (lambda stored, table: stored["recipe"].update(protocol="loso-v1"), "kept: run.json has protocol random10"),
        (lambda stored, table: stored["recipe"].update(corpsu="ravdess"), "Unknown key 'corpsu'"),
        (lambda stored, table: stored.pop("recipe") and None, "run.json is damaged: recipe is None"),
        (lambda stored, table: stored.update(environments=[3]), "run.json is damaged: environments has 3"),
        (lambda stored, table: stored["histories"].update(x=[]), "run.json is damaged: histories.x is []"),
    ],
    ids=range(10),
)
def test_a_changed_kept_run_is_found(tmp_path, change, message):
    keep(make_run(tmp_path / "run"), tmp_path / "kept")
    damage_kept(tmp_path / "kept", change)
    (tmp_path / "ledger.yaml").write_text("rows: [{title: Row, run: kept, command: a, hardware: b}]")
    shutil.rmtree(tmp_path / "run")
    assert message in "\n".join(problems(tmp_path))


def test_a_run_that_an_earlier_version_kept_is_read_and_kept(tmp_path):
    run = make_run(tmp_path / "run", n_seeds=2)
    keep(run, tmp_path / "kept")
    for path in [*run.rglob("predictions.csv"), *run.rglob("history.csv")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert RunFolder(run).read_scores(["fold01", "fold07"], CLASSES).keys() == {"fold01"}
    keep(run, tmp_path / "again")
    for name in ("run.json", "predictions.csv.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def test_only_runs_named_by_fold_and_seed_are_kept(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "fold01").rename(run / "first")
    change(run / "report.json", '[\n      "fold01"\n', '[\n      "first"\n')
    with pytest.raises(DataError, match="first is not named fold01 or fold01-seedN"):
        keep(run, tmp_path / "kept")


def test_keeping_twice_gives_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("one", "two"):
        keep(run, tmp_path / name)
    keep(tmp_path / "one", tmp_path / "again")  # what is kept can be kept
    with pytest.raises(DataError, match="is there already"):
        keep(run, tmp_path / "two")
    keep(run, tmp_path / "two", overwrite=True)
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two", tmp_path / "again")
    ]
    assert contents[0] == contents[1] == contents[2]


def test_only_an_earlier_copy_is_replaced(results, tmp_path):
    run, before = make_run(tmp_path / "run"), sorted(results.rglob("*"))
    with pytest.raises(DataError, match=r"results holds first/data\.json, a file that keep does not write; it is not"):
        keep(run, results, overwrite=True)
    kept = tmp_path / "kept"
    for name in ("first", "second"):
        keep(results / name, kept / name)
    (kept / "ledger.yaml").write_text("rows: []")
    with pytest.raises(DataError, match=r"kept holds ledger\.yaml, a file that keep does not write"):
        keep(run, kept, overwrite=True)
    (kept / "ledger.yaml").unlink()
    with pytest.raises(DataError, match=r"kept holds the run first, missing in .*run;"):
        keep(run, kept, overwrite=True)
    for other, message in (
        (
            make_run(tmp_path / "other", model="svc"),
            r"second is a run with another recipe than .*other; it is not",
        ),
        (
            make_run(tmp_path / "shorter", n_folds=1),
            r"second holds fold02, missing in .*shorter; it is not replaced",
        ),
    ):
        with pytest.raises(DataError, match=message):
            keep(other, kept / "second", overwrite=True)
    damage_kept(kept / "second", lambda stored, table: stored.update(data={}))
    with pytest.raises(DataError, match=r"second is a run with another data than"):
        keep(run, kept / "second", overwrite=True)
    damage_kept(kept / "second", lambda stored, table: stored.update(data={"corpus": "ravdess"}))
    (kept / "first" / "mine").symlink_to(results)
    with pytest.raises(DataError, match=r"first holds mine, a file that"):
        keep(run, kept / "first", overwrite=True)
    (tmp_path / "link").symlink_to(kept / "second")
    with pytest.raises(DataError, match="link is there already"):
        keep(run, tmp_path / "link", overwrite=True)
    keep(run, kept / "second", overwrite=True)
    assert StoredRun.open(kept / "second").summary == StoredRun.open(run).summary
    assert sorted(results.rglob("*")) == before


def test_a_study_is_kept_whole(results, tmp_path):
    (results / "study" / "table.md").write_text("| a |\n")
    keep(results / "study", tmp_path / "kept")
    assert (tmp_path / "kept" / "table.md").exists()
    assert [path.name for path in run_folders(tmp_path / "kept")] == ["a", "b"]


def test_what_cannot_be_kept_is_one_line(results, tmp_path):
    with pytest.raises(DataError, match=r"holds no report\.json"):
        keep(tmp_path / "nothing", tmp_path / "kept")
    with pytest.raises(DataError, match="one within the other"):
        keep(results, results / "kept")
    change(results / "first" / "fold01" / "predictions.csv", "angry,angry", "angry,sad")
    with pytest.raises(DataError, match=r"first fold01: UAR: .*; nothing was kept"):
        keep(results / "first", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_stale_compressed_table_is_not_kept(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("predictions.csv", "history.csv"):
        (run / "fold01" / f"{name}.gz").write_bytes(gzip.compress((run / "fold02" / name).read_bytes() + b"x"))
    keep(run, tmp_path / "kept")
    live, kept = StoredRun.open(run), StoredRun.open(tmp_path / "kept")
    pd.testing.assert_frame_equal(kept.tables["fold01"], pd.read_csv(run / "fold01" / "predictions.csv", dtype=str))
    assert kept.histories == live.histories
    assert len(kept.histories["fold01/history.csv"]["epoch"]) == 500


# Compressed tables ----------------------------------------------------------------------------------------------------


def test_new_predictions_replace_compressed_ones(tmp_path):
    fold = tmp_path / "fold01"
    fold.mkdir()
    for name in ("predictions.csv.gz", "history.csv.gz"):
        (fold / name).write_bytes(gzip.compress(b"label,prediction\n"))
    RunFolder(tmp_path).write_predictions("fold01", predictions(0, 5, 1.0))
    assert not (fold / "predictions.csv.gz").exists()
    assert score_predictions(fold / "predictions.csv", CLASSES).war == 1.0
    write_table(fold / "history.csv", [{"epoch": 1}])
    assert not (fold / "history.csv.gz").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"label,prediction\nx,y\n")[:-9]],
    ids=["empty", "no gzip", "cut off"],  # gzip writes the time, and workers must agree on a test's name
)
def test_damaged_compressed_predictions_are_one_line(tmp_path, content):
    (tmp_path / "predictions.csv.gz").write_bytes(content)
    for read in (read_predictions, lambda folder: score_predictions(folder / "predictions.csv", CLASSES)):
        with pytest.raises(DataError, match=r"predictions\.csv\.gz is damaged .* delete its folder"):
            read(tmp_path)


# What papers report ---------------------------------------------------------------------------------------------------


def test_published_figures_are_percentages_with_their_source():
    for key, published in PUBLISHED.items():
        figures = [score for score in published.scores if score is not None]
        assert figures, key
        assert all(10 < score < 100 for score in figures), key
        assert published.paper, key
        assert published.protocol, key


def test_a_system_that_two_tables_have_is_the_same():
    for corpus in ("ravdess", "iemocap"):
        names = tuple(name for name in PUBLISHED if name.startswith(f"tbdm-300/{corpus}/") and ":" in name)
        assert names == tuple(f"tbdm-300/{corpus}/{system}" for system in SYSTEMS)
        assert PUBLISHED[names[0]].scores == PUBLISHED[f"tbdm-300/{corpus}"].scores


@pytest.mark.parametrize(
    ("key", "scores"),
    [
        ("timnet-500/ravdess", (90.04, 90.07, None)),
        ("timnet-300/savee", (80.09, 81.19, 78.20)),
        ("tbdm-bt/casia", (86.54, 85.66, 85.77)),
        ("tbdm-300/emodb", (92.94, 91.40, 91.55)),
        ("tbdm-300/ravdess/5-blocks", (91.08, 90.90, 90.84)),
        ("tbdm-300/iemocap/pre-hoc:probabilities", (73.69, 72.22, 72.26)),
        ("qvgg16-at-s/ravdess/actors", (None, 51.67, None)),
        ("frozen/ravdess/mfcc-dnn", (47.02, 48.06, None)),
    ],
)
def test_figures_are_those_of_the_papers(key, scores):
    assert PUBLISHED[key].scores == scores


# Commands -------------------------------------------------------------------------------------------------------------


def test_report_writes_prints_and_checks(run, results):
    page = page_of(results)
    code, out, _ = run("report", results)
    assert (code, out) == (0, page.read_text())
    (results / "study" / "table.md").write_text("| 99.99 |\n")
    keep(results / "second", results / "copy")
    shutil.rmtree(results / "second")
    (results / "copy").rename(results / "second")
    in_kept = [f"{part} in run.json" for part in ("data", "environments", "histories", "system")]
    live = ["data.json", "environment.json", "provenance.txt", "history.csv", "model.keras", "table.md"]
    beside = sorted(in_kept + live)
    assert not_checked(results) == beside
    right = f"{results}: reports and page follow from the predictions. Not checked: {', '.join(beside)}.\n"
    assert run("report", results, "--check") == (0, right, "")
    page.write_text("old")
    code, out, _ = run("report", results, "--check")
    assert code == 1
    assert "results.md: it has old\n" in out
    assert run("report", results, "--output", page)[0] == 0
    assert run("report", results, "--check")[0] == 0
    code, _, err = run("report", results / "first")
    assert code == 2
    assert "first has no ledger.yaml; give a folder with ledger.yaml and run folders" in err
    for options in ([], ["--check"]):
        code, _, err = run("report", results / "nowhere", *options)
        assert code == 2
        assert "nowhere is no folder; give a folder with" in err


def test_compare_prints_and_refuses(run, results):
    code, out, _ = run("compare", results / "first", results / "second")
    assert code == 0
    assert "72 test clips of 12 † speakers, 2 folds together" in out
    code, out, _ = run("compare", results / "first", results / "second", "--json")
    assert json.loads(out)["differences"]["uar"].keys() == {"value", "low", "high", "p"}
    code, _, err = run("compare", results / "first", results / "nothing")
    assert code == 2
    assert "report.json cannot be read" in err
    code, _, err = run("compare", results / "study", results / "first")
    assert code == 2
    assert "study is a folder of run folders; give one of them: a, b." in err


def test_keep_says_how_much_it_kept(run, results, tmp_path):
    code, out, _ = run("keep", results / "first", tmp_path / "kept")
    assert code == 0
    assert "2 files" in out
    assert run("keep", results / "first", tmp_path / "kept")[0] == 2
    assert run("keep", results / "first", tmp_path / "kept", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("protocol", "task"), [("cross-pooled2-seed0-v1", "ravdess and emodb"), ("cross-shared5-v1", "ravdess to emodb")]
)
def test_two_corpora_are_tested_on_together_or_one_after_the_other(tmp_path, protocol, task):
    make_run(tmp_path / "first")
    report = json.loads((tmp_path / "first" / "report.json").read_text())
    report["recipe"] |= {"test_corpus": "emodb", "protocol": protocol}
    report["protocol"] = protocol
    (tmp_path / "first" / "report.json").write_text(json.dumps(report))
    (tmp_path / "ledger.yaml").write_text("rows: [{title: Row, run: first, command: a, hardware: b}]")
    assert f"| {task}, " in make_page(tmp_path)
