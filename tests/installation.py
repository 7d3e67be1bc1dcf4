"""Use an installed serzoo: every model is built, trained weights predict, and saved models load.

``make test-pythons`` runs it in a fresh environment for each supported version of Python, and with the lowest versions
of the requirements. It runs without pytest, since such an environment has the core requirements alone.
"""

import platform
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

import serzoo
from serzoo.errors import SerzooWarning


def main() -> None:
    """Print a line for each step; any failure is an exception."""
    names = ("numpy", "scikit-learn", "keras", "tensorflow")
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))

    for name in serzoo.list_models():
        model = serzoo.build(name, n_classes=7)
        print(f"built {name}: {model.count_params():,} weights")

    clips = serzoo.data.sample_clips()
    recording, label = clips.paths[0], clips.column("label")[0]
    for name in serzoo.list_pretrained("emotion"):
        classifier = serzoo.load(name)
        prediction = classifier.predict(recording)
        print(f"{name}: {prediction.label} ({prediction.confidence:.0%}); true label {label}")

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", SerzooWarning)  # a file has no model card
        path = classifier.save(Path(folder) / "model.keras")
        pairs = zip(classifier.model.get_weights(), serzoo.load(path).model.get_weights(), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs), "a saved model has other weights when it is loaded"
    print("saved and loaded a model")

    command = [str(Path(sys.executable).with_name("serzoo")), "predict", str(recording)]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
