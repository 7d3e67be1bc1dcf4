"""Predict real recordings with pretrained weights; then train, score and export a model on synthetic speech.

Run it with ``make quickstart`` or ``python examples/quickstart.py [FOLDER]``; it takes about two minutes.
"""

import sys
from pathlib import Path

import serzoo
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.data import audio


def predict() -> None:
    clips = serzoo.data.sample_clips()
    print(f"1. Predict {len(clips)} recordings of RAVDESS with timnet.ravdess_v2, trained without these two actors.\n")
    classifier = serzoo.load("timnet.ravdess_v2")
    rows = list(zip(clips.column("label"), classifier.predict(clips.paths), strict=True))

    print("   acted       man (actor 01)     woman (actor 20)")
    cells = [f"{found.top} {found.confidence:.0%}{' *' if found.top == label else ''}" for label, found in rows]
    for (label, _), man, woman in zip(rows[::2], cells[::2], cells[1::2], strict=True):
        print(f"   {label:<11} {man:<18} {woman}")
    confident = [(label, found) for label, found in rows if found.confidence >= found.threshold]
    print(f"\n   {n_correct(rows)} of {len(rows)} are correct (*); chance is 2.")
    print(f"   {len(confident)} reach confidence {classifier.threshold}; {n_correct(confident)} of those are correct.")
    print(f"   UAR on all 1440 recordings, every actor unseen: {classifier.card.scores['uar']:.1%}.\n")


def n_correct(rows: list) -> int:
    return sum(found.top == label for label, found in rows)


def train_and_export(folder: Path) -> None:
    import tensorflow as tf

    print("2. Train TIM-Net on the built-in synthetic corpus; its scores are not about real speech.\n")
    report = serzoo.cross_validate("timnet-synthetic", run_folder=folder / "run", folds=[1])
    print(f"\n{report}\nChance is 12.5 for 8 classes.\n")

    print("3. Export the model as a SavedModel, which needs TensorFlow alone, and classify the test clips with it.\n")
    classifier = serzoo.load(report.folder / report.chosen[0])
    exported = serzoo.export(classifier, folder / "exported", overwrite=True)
    run = tf.saved_model.load(str(exported)).signatures["serving_default"]
    corpus = serzoo.data.load_corpus("synthetic")
    test = corpus.select(report.protocol.folds(corpus)[0].test)
    waveforms = [audio.read(path, classifier.feature_spec.sample_rate)[0] for path in test.paths]
    found = [run(waveform=tf.constant(waveform[None]))["label"].numpy()[0].decode() for waveform in waveforms]
    print(f"   {exported}: {sum(test.column('label') == found)} of {len(test)} test clips are correct.")


def main(folder: Path) -> None:
    import_tensorflow_quietly()
    predict()
    train_and_export(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart"))
