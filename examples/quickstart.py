"""Train TIM-Net on the built-in synthetic corpus, score it, export it and classify a wav with the export.

Run it with ``make quickstart`` or ``python examples/quickstart.py [FOLDER]``; it takes about two minutes.
"""

import sys
from pathlib import Path

import soundfile

import serzoo
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.data import audio
from serzoo.data.synthetic import synthesize


def main(folder: Path) -> None:
    import_tensorflow_quietly()
    import tensorflow as tf

    print("Training TIM-Net on the synthetic corpus (it claims nothing about real speech).")
    report = serzoo.cross_validate("timnet-synthetic", run_folder=folder / "run", folds=[1])
    print(f"{report}\n(chance is 12.5 % for its 8 classes)")

    classifier = serzoo.load(report.folder / report.chosen[0])
    exported = serzoo.export(classifier, folder / "exported", overwrite=True)
    print(f"\nExported and checked: {exported}")

    wav = folder / "angry.wav"
    rate = classifier.feature_spec.sample_rate
    soundfile.write(wav, synthesize("angry", "21", "male", "01", sample_rate=rate), rate)
    waveform, _ = audio.read(wav, rate)
    answer = tf.saved_model.load(str(exported)).signatures["serving_default"](waveform=tf.constant(waveform[None]))
    probability = float(tf.reduce_max(answer["probabilities"]))
    print(f"The export says of {wav}, synthesised as angry: {answer['label'].numpy()[0].decode()} ({probability:.0%})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart"))
