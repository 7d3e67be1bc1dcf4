"""Train on your own recordings: a folder per class, any file names.

    python examples/own_recordings.py CLIPS [RUN]

CLIPS holds a folder per class, for example CLIPS/angry/1.wav. Every clip is centred in three seconds.
Folders have no speaker names, so the score includes speakers of the training part. For a score on unseen
speakers use a CSV table with a column ``speaker`` and the protocol ``loso-v1``.
"""

import sys
from pathlib import Path

import serzoo
from serzoo.settings import ModelConfig


def main(clips: Path, run: Path, epochs: int = 100) -> None:
    recipe = serzoo.Recipe(
        name="own-recordings",
        corpus="folder",
        model=ModelConfig("timnet"),
        features=serzoo.MFCCSpec(n_samples=3 * 22_050),
        protocol="random5-seed0-v1",
        training=serzoo.TrainingConfig(epochs=epochs, batch_size=16, jit_compile=False),
    )
    report = serzoo.cross_validate(recipe, data_root=clips, run_folder=run, folds=[1])
    print(report)

    classifier = serzoo.load(run / report.chosen[0])
    for prediction in classifier.predict(clips)[:5]:
        print(prediction.name, prediction.label, f"{prediction.confidence:.0%}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "runs/own-recordings"))
