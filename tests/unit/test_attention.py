"""The attention layers: published numbers, windows, the library's layer, and what they cost."""

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from serzoo.layers.attention import AttentionPooling, DotProductAttention, SelfAttention

pytestmark = pytest.mark.jax

ON_TENSORFLOW = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="keras-self-attention runs on TensorFlow only"
)


def run(layer, inputs):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(np.asarray(inputs, "float32"))))


def with_weights(layer, n_channels, seed=0):
    """Build the layer and give it random weights, large enough for scores on both sides of zero."""
    layer.build((None, None, n_channels))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def clips(n_frames, n_channels=6, n_clips=2):
    return np.random.default_rng(1).normal(size=(n_clips, n_frames, n_channels)).astype("float32")


def relu(x):
    return np.maximum(x, 0)


def self_attention(inputs, weights, width, activation):
    """NumPy version of the published equations, with all pairs of frames."""
    query_kernel, key_kernel, bias, score_kernel, score_bias = (np.asarray(weight, float) for weight in weights)
    inputs = inputs.astype(float)
    compared = np.tanh((inputs @ query_kernel)[:, :, None] + (inputs @ key_kernel)[:, None] + bias)
    scores = activation((compared @ score_kernel)[..., 0] + score_bias)
    if width is not None:
        position = np.arange(inputs.shape[1])
        distance = position - position[:, None]
        scores = np.where((distance >= -(width // 2)) & (distance < width - width // 2), scores, -np.inf)
    return softmax(scores, axis=-1) @ inputs


def published_example(width, activation):
    """Return five frames and the layer's output for weights from the same generator, (5, 3) each.

    The numbers expected of it below were computed with keras-self-attention in double precision.
    """
    rng = np.random.RandomState(0)
    frames = rng.randn(1, 5, 3)
    query_kernel, key_kernel, score_kernel = rng.randn(3, 2), rng.randn(3, 2), rng.randn(2, 1)
    layer = SelfAttention(units=2, width=width, activation=activation)
    layer.build(frames.shape)
    layer.set_weights([query_kernel, key_kernel, np.array([0.1, -0.2]), score_kernel, np.array([0.3])])
    return frames[0], run(layer, frames)[0]


@pytest.mark.parametrize(
    ("width", "activation", "first", "mean"),
    [
        (None, "relu", (1.331082, 0.562651, 0.415222), (1.361914, 0.646960, 0.281053)),
        (3, "relu", (1.971080, 1.037251, 0.129504), (1.208427, 0.497001, 0.384218)),
        (3, None, None, (1.205732, 0.498963, 0.392003)),
    ],
)
def test_published_example(width, activation, first, mean):
    _, attended = published_example(width, activation)
    np.testing.assert_allclose(attended.mean(axis=0), mean, atol=1e-6)
    if first is not None:
        np.testing.assert_allclose(attended[0], first, atol=1e-6)


def test_scores_below_zero_give_equal_weights():
    """Relu clips all scores of the published example's row 3, whose weights are (0, 0, 1/3, 1/3, 1/3)."""
    frames, attended = published_example(3, "relu")
    np.testing.assert_allclose(attended[3], frames[2:].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("width", "row", "first", "last"),
    [(15, 0, 0, 7), (15, 20, 13, 27), (15, 39, 32, 39), (4, 10, 8, 11), (4, 0, 0, 1), (1, 5, 5, 5), (None, 20, 0, 39)],
)
def test_window_of_a_frame(width, row, first, last):
    """Frames that are unit vectors return the weights themselves; an even window begins earlier than it ends."""
    layer = with_weights(SelfAttention(width=width, activation="relu"), 40)
    weights = run(layer, np.eye(40)[None])[0]
    np.testing.assert_array_equal(np.flatnonzero(weights[row]), np.arange(first, last + 1))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("n_frames", "width"),
    [(1, None), (40, None), (40, 1), (40, 3), (40, 4), (1, 15), (14, 15), (15, 15), (16, 15), (40, 15), (5, 99)],
)
@pytest.mark.parametrize(("name", "activation"), [("relu", relu), (None, lambda x: x)], ids=["relu", "linear"])
def test_self_attention_computes_its_equations(n_frames, width, name, activation):
    layer = with_weights(SelfAttention(units=5, width=width, activation=name), 6)
    inputs = clips(n_frames)
    expected = self_attention(inputs, layer.get_weights(), width, activation)
    np.testing.assert_allclose(run(layer, inputs), expected, atol=1e-5)


@pytest.mark.parametrize("width", [None, 15])
def test_self_attention_takes_any_number_of_frames(width):
    """Symbolically, the number of frames is unknown."""
    inputs = keras.Input((None, 6))
    layer = SelfAttention(width=width, activation="relu")
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, 6)
    for n_frames in (1, 15, 37):
        np.testing.assert_allclose(
            model.predict(clips(n_frames), verbose=0), run(layer, clips(n_frames)), rtol=1e-5, atol=1e-6
        )


def library_layer(width, activation):
    from keras_self_attention import SeqSelfAttention

    return SeqSelfAttention(attention_width=width, attention_activation=activation)


def gradients(layer, inputs):
    import tensorflow as tf

    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(tf.sin(3.0 * layer(inputs)))
    return [gradient.numpy() for gradient in tape.gradient(loss, [inputs, *[w.value for w in layer.weights]])]


@ON_TENSORFLOW
@pytest.mark.parametrize("n_frames", [1, 5, 40, 150])
@pytest.mark.parametrize("width", [None, 3, 4, 15])
@pytest.mark.parametrize("activation", ["relu", None])
def test_self_attention_is_the_librarys(n_frames, width, activation):
    """Values and gradients, with its weights as they are."""
    ours, library = SelfAttention(width=width, activation=activation), library_layer(width, activation)
    ours.build((None, None, 6))
    with_weights(library, 6)
    ours.set_weights(library.get_weights())
    inputs = clips(n_frames)
    np.testing.assert_allclose(run(ours, inputs), run(library, inputs), atol=1e-5)
    for our, their in zip(gradients(ours, inputs), gradients(library, inputs), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4 * max(1, np.abs(their).max()))


@ON_TENSORFLOW
def test_weights_are_those_of_the_library():
    ours, library = SelfAttention(), library_layer(None, None)
    for layer in (ours, library):
        layer.build((None, None, 256))
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in library.weights]
    assert [weight.path.split("/")[-1] for weight in ours.weights] == ["Wt", "Wx", "bh", "Wa", "ba"]
    assert ours.count_params() == 16_449


def largest_intermediate(layer, n_frames, n_channels=6):
    """Return the values in the largest array that a forward and backward pass of one clip computes."""
    if keras.backend.backend() == "jax":
        import jax

        values = [weight.value for weight in layer.weights]

        def loss(weights, inputs):
            return (layer.stateless_call(weights, [], inputs)[0] ** 2).sum()

        program = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(values, np.ones((1, n_frames, n_channels), "float32"))
        return max(variable.aval.size for equation in equations(program.jaxpr) for variable in equation.outvars)

    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, n_frames, n_channels))])
    def backward(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(layer(inputs) ** 2)
        return tape.gradient(loss, [inputs, *[weight.value for weight in layer.weights]])

    operations = backward.get_concrete_function().graph.get_operations()
    shapes = [output.shape for operation in operations for output in operation.outputs]
    assert all(shape.rank is None or shape.rank < 2 for shape in shapes if not shape.is_fully_defined())
    return max(shape.num_elements() for shape in shapes if shape.is_fully_defined())


def equations(program):
    """Return all equations of a JAX program, those of the programs it calls too."""
    import jax

    found = []
    for equation in program.eqns:
        found.append(equation)
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")):
            if hasattr(inner, "eqns"):
                found += equations(getattr(inner, "jaxpr", inner))
    return found


def test_windowed_attention_grows_with_frames_times_width():
    n_frames, width, units = 600, 15, 4
    windowed = with_weights(SelfAttention(units=units, width=width, activation="relu"), 6)
    assert largest_intermediate(windowed, n_frames) == n_frames * (2 * width - 1) * units
    assert largest_intermediate(windowed, 2 * n_frames) == 2 * n_frames * (2 * width - 1) * units
    full = with_weights(SelfAttention(units=units, activation="relu"), 6)
    assert largest_intermediate(full, n_frames) == n_frames**2 * units


def test_attention_pooling_computes_its_equation():
    layer = with_weights(AttentionPooling(), 256)
    inputs = clips(7, 256)
    kernel, bias, scale = layer.get_weights()
    weights = softmax(scale * expit(inputs @ kernel + bias), axis=1)
    np.testing.assert_allclose(run(layer, inputs), (weights * inputs).sum(axis=1), rtol=1e-5, atol=1e-5)
    assert layer.count_params() == 258
    assert layer.compute_output_shape((None, 7, 256)) == (None, 256)


def test_attention_pooling_starts_as_published():
    keras.utils.set_random_seed(0)
    layer = AttentionPooling()
    layer.build((None, None, 20_000))
    kernel, bias, scale = layer.get_weights()
    assert kernel.std() == pytest.approx(0.1, rel=0.02)
    assert kernel.mean() == pytest.approx(0, abs=0.003)
    assert bias != scale


def test_dot_product_attention_computes_its_equations():
    layer = with_weights(DotProductAttention(), 6)
    inputs = clips(9)
    queries, keys, values = (inputs @ kernel for kernel in layer.get_weights())
    weights = softmax(queries @ keys.transpose(0, 2, 1) / np.sqrt(6), axis=-1)
    np.testing.assert_allclose(run(layer, inputs), weights @ values, rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 3 * 6 * 6


@pytest.mark.parametrize("layer", [SelfAttention(), DotProductAttention()], ids=lambda layer: type(layer).__name__)
def test_matrices_of_a_layer_start_different(layer):
    layer.build((None, None, 32))
    first, second = [weight.numpy() for weight in layer.weights if weight.shape == (32, 32)][:2]
    assert np.abs(first - second).max() > 0.05


@pytest.mark.parametrize(
    "layer",
    [
        SelfAttention(units=3, width=4, activation="relu", name="window"),
        SelfAttention(),
        AttentionPooling(name="pooling"),
        DotProductAttention(name="dot_product"),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_are_rebuilt_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
