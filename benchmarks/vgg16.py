"""Time and memory of a training step: VGG16 against quaternion VGG16 on RH-Emo's embedding.

    python benchmarks/vgg16.py --width 0.25

Prints for both networks the number of parameters, the time of a step (forward, backward, Adam) on 4-second clips, and
the rise of the process's peak memory by building and training, with the changes from one to the other next to those of
Guizzo et al. (2023) for full width: time -80.5 %, memory -53.7 %. Each figure is measured in a new process, since the
peak of a process never falls; loading TensorFlow and a first step of a narrow network are not included. A GPU is not
used: the memory is the host's.
"""

import argparse

import numpy as np
from measuring import peak_memory, run_apart, timed

NETWORKS = ("vgg16", "qvgg16")
N_FRAMES, N_BINS, N_CLASSES = 501, 128, 8
NARROW = 1 / 16
PAPER_TIME, PAPER_MEMORY = -80.5, -53.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.25, help="factor of all channels; default: 0.25")
    parser.add_argument("--batch", type=int, default=20, help="clips in a batch; default: 20, as in the paper")
    parser.add_argument("--repeats", type=int, default=5, help="steps, of which the fastest counts; default: 5")
    parser.add_argument("--xla", action="store_true", help="compile with XLA")
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.network:
        print(*measure(options.network, options.width, options.batch, options.repeats, options.xla))
    else:
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    print(f"width {options.width:g}, batch {options.batch}, XLA {'on' if options.xla else 'off'}")
    print("network    parameters      ms / step     MB")
    figures = [measure_apart(network, options) for network in NETWORKS]
    for network, (parameters, seconds, megabytes) in zip(NETWORKS, figures, strict=True):
        print(f"{network:8} {parameters:12,.0f} {1000 * seconds:14.0f} {megabytes:6.0f}")
    parameters, seconds, megabytes = (100 * (after / before - 1) for before, after in zip(*figures, strict=True))
    print(f"{'change':8} {parameters:10.1f} % {seconds:12.1f} % {megabytes:4.1f} %")
    print(f"{'paper':8} {PAPER_TIME:25.1f} % {PAPER_MEMORY:4.1f} %")


def measure_apart(network: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return the result of :func:`measure` in a new process."""
    settings = ("--width", options.width, "--batch", options.batch, "--repeats", options.repeats)
    parameters, seconds, megabytes = run_apart(__file__, "--network", network, *settings, *["--xla"] * options.xla)
    return parameters, seconds, megabytes


def measure(network: str, width: float, batch: int, repeats: int, xla: bool) -> tuple[int, float, float]:
    """Return the number of parameters, the fastest step in seconds and the rise of the peak memory in MB."""
    train(make_model(network, NARROW, xla), batch=1, steps=1)
    before = peak_memory()
    model = make_model(network, width, xla)
    seconds = train(model, batch, steps=repeats + 1)
    n_parameters = sum(weight.numpy().size for weight in model.trainable_weights)
    return n_parameters, seconds, peak_memory() - before


def make_model(network: str, width: float, xla: bool):
    import keras

    import serzoo

    model = serzoo.build(network, n_classes=N_CLASSES, width=width)
    model.compile(optimizer=keras.optimizers.Adam(1e-5), loss="categorical_crossentropy", jit_compile=xla)
    return model


def train(model, batch: int, steps: int) -> float:
    """Train on random clips in 0..1 and return the time of the fastest step, in seconds."""
    rng = np.random.default_rng(0)
    clips = rng.uniform(size=(batch, N_FRAMES, N_BINS, 1)).astype("float32")
    targets = np.eye(N_CLASSES, dtype="float32")[rng.integers(0, N_CLASSES, batch)]
    return min(timed(lambda: model.train_on_batch(clips, targets)) for _ in range(steps))


if __name__ == "__main__":
    main()
