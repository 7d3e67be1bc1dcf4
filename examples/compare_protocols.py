"""The effect of the protocol: the same model on seen and on unseen speakers.

    python examples/compare_protocols.py [FOLDER]

Trains TIM-Net on the built-in synthetic corpus twice. With random folds every test speaker is in
training too; with leave-one-speaker-out none is. The difference is that of the protocols, not of models.
"""

import sys
from pathlib import Path

import serzoo

PROTOCOLS = ("random10-seed46-v1", "loso-v1")


def main(folder: Path, epochs: int = 40) -> None:
    reports = [
        serzoo.cross_validate(
            "timnet-synthetic",
            run_folder=folder / protocol,
            folds=[1],
            changes={"protocol": protocol, "training.epochs": epochs, "training.selection": "last-epoch"},
        )
        for protocol in PROTOCOLS
    ]
    for report in reports:
        print(f"{report}\n")
    seen, unseen = (report.summary.mean["uar"] for report in reports)
    print(f"UAR on seen speakers {seen:.1%}, on unseen speakers {unseen:.1%}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/compare-protocols"))
