"""Time and memory of ACRNN's training step at full size, with XLA and without.

    python benchmarks/acrnn.py

A step is forward, backward and Nadam on a batch of 3-second segments. Each figure is measured in a new process.
"""

import argparse

import numpy as np
from measuring import peak_memory, run_apart, timed

N_CLASSES, SEGMENT = 8, (300, 40, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=40, help="segments in a batch; default: 40, as in the paper")
    parser.add_argument("--repeats", type=int, default=3, help="steps, of which the fastest counts; default: 3")
    parser.add_argument("--xla", choices=("on", "off"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.xla:
        print(*measure(options.batch, options.repeats, options.xla == "on"))
        return
    common = (__file__, "--batch", options.batch, "--repeats", options.repeats, "--xla")
    figures = {xla: run_apart(*common, xla) for xla in ("off", "on")}
    print(f"batch {options.batch}\nXLA   s / step     MB")
    for xla, (seconds, megabytes) in figures.items():
        print(f"{xla:4} {seconds:9.2f} {megabytes:6.0f}")
    print("on / off", *(f"{on / off:.2f}" for off, on in zip(*figures.values(), strict=True)))


def measure(batch: int, repeats: int, xla: bool) -> tuple[float, float]:
    """Return the fastest step in seconds and the process's peak memory in MB."""
    import keras

    import serzoo

    model = serzoo.build("acrnn", n_classes=N_CLASSES)
    model.compile(optimizer=keras.optimizers.Nadam(1e-4), loss="categorical_crossentropy", jit_compile=xla)
    rng = np.random.default_rng(0)
    segments = {"features": rng.normal(size=(batch, *SEGMENT)).astype("float32"), "gender": np.ones((batch, 1), "f")}
    targets = np.eye(N_CLASSES, dtype="float32")[rng.integers(0, N_CLASSES, batch)]
    return min(timed(lambda: model.train_on_batch(segments, targets)) for _ in range(repeats + 1)), peak_memory()


if __name__ == "__main__":
    main()
