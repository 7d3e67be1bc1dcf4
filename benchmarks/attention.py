"""Time and memory of self-attention: the layer of keras-self-attention against that of serzoo.

    python benchmarks/attention.py

Prints, per number of frames, the time of a forward and backward pass of the layer (channels, units and window as in
ACRNN) and the rise of the process's peak memory. Each figure is measured in a new process, since the peak of a process
never falls; loading TensorFlow and a first pass are not included.
"""

import argparse

from measuring import peak_memory, run_apart, timed

CHANNELS, WIDTH = 256, 15
LAYERS = ("library", "native")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[150, 600, 2400], help="default: 150 600 2400")
    parser.add_argument("--batch", type=int, default=4, help="clips in a batch; the library takes 7 GB for 4 of 2400")
    parser.add_argument("--repeats", type=int, default=5, help="passes, of which the fastest counts")
    parser.add_argument("--xla", action="store_true", help="compile with XLA")
    parser.add_argument("--layer", choices=LAYERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.layer:
        print(*measure(options.layer, options.batch, options.frames[0], options.repeats, options.xla))
    else:
        print_table(options)


def print_table(options: argparse.Namespace) -> None:
    print(f"batch {options.batch}, {CHANNELS} channels, window {WIDTH}, XLA {'on' if options.xla else 'off'}")
    print("frames   library ms  native ms  ratio   library MB  native MB  ratio")
    for n_frames in options.frames:
        (library_s, library_mb), (native_s, native_mb) = (measure_apart(layer, n_frames, options) for layer in LAYERS)
        print(
            f"{n_frames:6}   {1000 * library_s:10.1f} {1000 * native_s:10.1f} {library_s / native_s:6.1f}"
            f"   {library_mb:10.0f} {native_mb:10.0f} {library_mb / native_mb:6.1f}"
        )


def measure_apart(layer: str, n_frames: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return the result of :func:`measure` in a new process."""
    settings = ("--frames", n_frames, "--batch", options.batch, "--repeats", options.repeats, *["--xla"] * options.xla)
    seconds, megabytes = run_apart(__file__, "--layer", layer, *settings)
    return seconds, megabytes


def measure(layer: str, batch: int, n_frames: int, repeats: int, xla: bool) -> tuple[float, float]:
    """Return the fastest pass in seconds and the rise of the peak memory in MB."""
    import tensorflow as tf

    attention = make_layer(layer)
    frames = tf.random.stateless_normal((batch, n_frames, CHANNELS), seed=(0, 0))
    attention.build(frames.shape)
    weights = [weight.value for weight in attention.weights]

    @tf.function(jit_compile=xla, input_signature=[tf.TensorSpec((None, None, CHANNELS))])
    def forward_and_backward(inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.square(attention(inputs)))
        return tape.gradient(loss, [inputs, *weights])

    forward_and_backward(frames[:1, :2])
    before = peak_memory()
    seconds = min(timed(lambda: forward_and_backward(frames)[0].numpy()) for _ in range(repeats + 1))
    return seconds, peak_memory() - before


def make_layer(layer: str):
    if layer == "library":
        from keras_self_attention import SeqSelfAttention

        return SeqSelfAttention(attention_width=WIDTH, attention_activation="relu")
    from serzoo.layers.attention import SelfAttention

    return SelfAttention(width=WIDTH, activation="relu")


if __name__ == "__main__":
    main()
