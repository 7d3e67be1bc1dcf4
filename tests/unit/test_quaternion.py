"""The quaternion and hypercomplex layers against numbers multiplied one by one.

Several tests have a public program in mind that fails them; their docstrings name its mistake.
"""

import inspect
import itertools
from collections import Counter

import keras
import numpy as np
import pytest
from keras import ops

from serzoo.errors import ConfigError, UnknownNameError
from serzoo.layers.hypercomplex import PHMConv2D, PHMDense, phm_kernel
from serzoo.layers.quaternion import (
    QuaternionBatchNormalization,
    QuaternionConv1D,
    QuaternionConv2D,
    QuaternionConv2DTranspose,
    QuaternionDense,
    QuaternionFlatten,
    QuaternionInitializer,
    hamilton_kernel,
)

pytestmark = pytest.mark.jax

W, X = np.array([1.0, 2, 3, 4]), np.array([5.0, 6, 7, 8])
UNITS = dict(zip("1ijk", np.eye(4), strict=True))
CONJUGATE = np.array([1, -1, -1, -1])

QUATERNION_ALGEBRA = np.array(
    [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
        [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]],
        [[0, 0, 0, -1], [0, 0, -1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
    ]
)
"""Under which a parameterised product is Hamilton's; rows are components of the output."""

MULTIPLYING = {
    "dense": (lambda **options: QuaternionDense(8, **options), (2, 12)),
    "conv1d": (lambda **options: QuaternionConv1D(8, 3, **options), (2, 7, 12)),
    "conv2d": (lambda **options: QuaternionConv2D(8, 3, **options), (2, 7, 5, 12)),
    "transposed": (lambda **options: QuaternionConv2DTranspose(8, 3, **options), (2, 7, 5, 12)),
    "phm_dense": (lambda **options: PHMDense(8, n=4, **options), (2, 12)),
    "phm_conv2d": (lambda **options: PHMConv2D(8, 3, n=4, **options), (2, 7, 5, 12)),
}
"""A small layer of each kind, and the shape of an input."""

every_layer = pytest.mark.parametrize(("make", "shape"), MULTIPLYING.values(), ids=MULTIPLYING)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def run(layer, inputs, **arguments):
    return ops.convert_to_numpy(layer(ops.convert_to_tensor(np.asarray(inputs, "float32")), **arguments))


def array(values):
    return values.numpy() if isinstance(values, keras.Variable) else ops.convert_to_numpy(values)


def built(layer, input_shape):
    """Build the layer with a kernel that some test replaces; JAX compiles a random one for every shape."""
    layer.kernel_initializer = keras.initializers.Zeros()
    layer.build(input_shape)
    return layer


def with_random_weights(layer, input_shape, seed=0):
    built(layer, input_shape)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def with_kernel(layer, input_shape, components):
    """Build the layer with these components of its kernel, (4, ...)."""
    built(layer, input_shape)
    layer.kernel.assign(np.reshape(components, layer.kernel.shape))
    return layer


# Quaternions on an axis of their own, the last: a slow definition of the layers.


def hamilton(left, right):
    """Return products of quaternions, from their real and their vector parts."""
    a, b, v, w = left[..., :1], right[..., :1], left[..., 1:], right[..., 1:]
    return np.concatenate([a * b - (v * w).sum(-1, keepdims=True), a * w + b * v + np.cross(v, w)], axis=-1)


def unpack(channels):
    """Return the quaternions of blocks, (..., 4 m) -> (..., m, 4)."""
    return np.stack(np.split(channels.astype(float), 4, axis=-1), axis=-1)


def pack(quaternions):
    """Return blocks of quaternions, (..., m, 4) -> (..., 4 m)."""
    return np.concatenate(np.moveaxis(quaternions, -1, 0), axis=-1)


def weights_of(layer):
    """Return the layer's quaternions, (..., numbers, numbers, 4)."""
    return np.moveaxis(array(layer.kernel).astype(float), 0, -1)


def dense(inputs, weights):
    """Define QuaternionDense for inputs (batch, in, 4) and weights (in, out, 4)."""
    return hamilton(weights, inputs[:, :, None]).sum(axis=1)


def convolve(inputs, weights, strides, dilation_rate, padding):
    """Define the convolutions for inputs (batch, positions, in, 4) and weights (taps, in, out, 4)."""
    axes = list(zip(inputs.shape[1:], weights.shape[:-3], strides, dilation_rate, strict=False))
    if padding == "same":
        missing = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in axes]
        inputs = np.pad(inputs, [(0, 0), *((zeros // 2, zeros - zeros // 2) for zeros in missing), (0, 0), (0, 0)])
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, (_, k, s, d) in zip(inputs.shape[1:], axes, strict=False)]
    outputs = np.zeros((len(inputs), *sizes, weights.shape[-2], 4))
    for position in np.ndindex(*sizes):
        for tap in np.ndindex(weights.shape[:-3]):
            under = np.multiply(position, strides) + np.multiply(tap, dilation_rate)
            outputs[(slice(None), *position)] += dense(inputs[(slice(None), *under)], weights[tap])
    return outputs


def convolve_transposed(inputs, weights, strides, padding):
    """Define the transposed convolution for inputs (batch, positions, in, 4) and weights (taps, out, in, 4)."""
    axes = list(zip(inputs.shape[1:], weights.shape[:-3], strides, strict=False))
    outputs = np.zeros((len(inputs), *((n + k) * s for n, k, s in axes), weights.shape[-3], 4))
    for position in np.ndindex(inputs.shape[1:-2]):
        for tap in np.ndindex(weights.shape[:-3]):
            under = np.multiply(position, strides) + tap
            conjugates = np.swapaxes(weights[tap], 0, 1) * CONJUGATE
            outputs[(slice(None), *under)] += dense(inputs[(slice(None), *position)], conjugates)
    surplus = [max(k - s, 0) for _, k, s in axes]
    first = [extra // 2 if padding == "same" else 0 for extra in surplus]
    sizes = [n * s + (0 if padding == "same" else extra) for (n, _, s), extra in zip(axes, surplus, strict=True)]
    return outputs[(slice(None), *(slice(start, start + size) for start, size in zip(first, sizes, strict=True)))]


# The algebra


def matrix(quaternion):
    """Return the real matrix of multiplying by a quaternion from the left: rows out, columns in."""
    return ops.convert_to_numpy(hamilton_kernel(ops.reshape(np.asarray(quaternion, "float32"), (4, 1, 1)))).T


def test_the_algebra_of_these_tests():
    one, i, j, k = UNITS.values()
    for product in (hamilton(i, i), hamilton(j, j), hamilton(k, k), hamilton(hamilton(i, j), k)):
        np.testing.assert_array_equal(product, -one)
    np.testing.assert_array_equal(pack(unpack(random(3, 8))), random(3, 8))


def test_product_of_two_quaternions():
    np.testing.assert_array_equal(matrix(W) @ X, [-60, 12, 30, 24])
    np.testing.assert_array_equal(matrix(X) @ W, [-60, 20, 14, 32])
    np.testing.assert_array_equal(matrix(W * CONJUGATE) @ X, [70, 0, -16, -8])


def test_products_of_the_units():
    table = {"ij": "k", "jk": "i", "ki": "j", "1i": "i", "j1": "j"}
    negative = {"ji": "k", "kj": "i", "ik": "j", "ii": "1", "jj": "1", "kk": "1"}
    for sign, products_of_units in ((1, table), (-1, negative)):
        for (left, right), product in products_of_units.items():
            np.testing.assert_array_equal(matrix(UNITS[left]) @ UNITS[right], sign * UNITS[product])


def test_identities_of_the_product():
    a, b, c = random(3, 4).astype(float)
    np.testing.assert_array_equal(matrix(UNITS["1"]), np.eye(4))
    np.testing.assert_allclose(matrix(a) @ matrix(a).T, (a @ a) * np.eye(4), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix(a) @ b), np.linalg.norm(a) * np.linalg.norm(b), rtol=1e-6)
    np.testing.assert_allclose(matrix(a) @ (matrix(b) @ c), matrix(matrix(a) @ b) @ c, rtol=1e-5)
    assert np.abs(matrix(a) @ b - matrix(b) @ a).max() > 0.1


# The layers that multiply


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(QuaternionDense(4), (1, 4)), (QuaternionConv1D(4, 1), (1, 1, 4)), (QuaternionConv2D(4, 1), (1, 1, 1, 4))],
    ids=["dense", "conv1d", "conv2d"],
)
def test_every_layer_takes_the_same_product(layer, shape):
    """A public Keras library has (-60, 12, 30, 24) from its convolution and (70, 0, -16, -8) from its dense layer."""
    np.testing.assert_array_equal(run(with_kernel(layer, shape, W), X.reshape(shape)).ravel(), [-60, 12, 30, 24])


def test_transposed_convolution_multiplies_by_the_conjugate():
    layer = with_kernel(QuaternionConv2DTranspose(4, 1), (1, 1, 1, 4), W)
    np.testing.assert_array_equal(run(layer, X.reshape(1, 1, 1, 4)).ravel(), [70, 0, -16, -8])


def test_channels_are_packed_in_blocks():
    """Interleaved, the same numbers would give (-22, -16, -4, 34)."""
    components = np.stack([[1, 2, 0, 1], [0, 1, -1, 2]], axis=-1)
    layer = with_kernel(QuaternionDense(4), (1, 8), components)
    np.testing.assert_array_equal(run(layer, [[1, 2, 3, 4, 5, 6, 7, 8]]), [[-26, -18, -8, 32]])


def test_convolution_at_a_corner_and_in_the_centre():
    kernel = np.arange(9).reshape(3, 3) / 10
    components = np.stack([kernel, 2 * kernel, -kernel, 0.5 * kernel])
    layer = with_kernel(QuaternionConv2D(4, 3, padding="same", use_bias=False), (1, 3, 3, 4), components)
    outputs = run(layer, np.moveaxis(np.arange(36).reshape(1, 4, 3, 3) / 10, 1, -1))[0]
    np.testing.assert_allclose(outputs[1, 1], (-5.88, -6.66, -14.40, 35.10), rtol=1e-5)
    np.testing.assert_allclose(outputs[0, 0], (-3.53, -5.61, -8.43, 19.89), rtol=1e-5)


@pytest.mark.parametrize("leading", [(), (5,), (3, 2)], ids=str)
def test_dense_multiplies_its_quaternions(leading):
    inputs = random(4, *leading, 12)
    layer = with_random_weights(QuaternionDense(8), inputs.shape)
    expected = pack(dense(unpack(inputs.reshape(-1, 12)), weights_of(layer))) + array(layer.bias)
    np.testing.assert_allclose(run(layer, inputs), expected.reshape(4, *leading, 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("layer", "kernel_size", "strides", "dilation_rate"),
    [
        (QuaternionConv1D, (3,), (1,), (1,)),
        (QuaternionConv1D, (4,), (3,), (1,)),
        (QuaternionConv1D, (2,), (1,), (3,)),
        (QuaternionConv2D, (3, 2), (1, 1), (1, 1)),
        (QuaternionConv2D, (3, 3), (2, 1), (1, 1)),
        (QuaternionConv2D, (2, 3), (1, 1), (3, 2)),
    ],
)
def test_convolution_multiplies_its_quaternions(layer, kernel_size, strides, dilation_rate, padding):
    """Sizes that no axis shares: a public library reads the number of quaternions from the wrong one."""
    inputs = random(2, *(9, 7)[: layer.rank], 8)
    options = {"strides": strides, "dilation_rate": dilation_rate, "padding": padding}
    layer = with_random_weights(layer(12, kernel_size, **options), inputs.shape)
    expected = pack(convolve(unpack(inputs), weights_of(layer), **options)) + array(layer.bias)
    np.testing.assert_allclose(run(layer, inputs), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel_size", "strides"), [((3, 3), (2, 1)), ((2, 3), (1, 2)), ((1, 4), (2, 3))], ids=str)
def test_transposed_convolution_multiplies_its_quaternions(kernel_size, strides, padding):
    inputs = random(2, 4, 3, 8)
    layer = with_random_weights(
        QuaternionConv2DTranspose(12, kernel_size, strides=strides, padding=padding), inputs.shape
    )
    expected = pack(convolve_transposed(unpack(inputs), weights_of(layer), strides, padding)) + array(layer.bias)
    np.testing.assert_allclose(run(layer, inputs), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("options", [{"strides": 2}, {"strides": (1, 2)}, {"dilation_rate": 2}], ids=str)
def test_transposed_convolution_is_the_adjoint(options, padding):
    """<conv(x), y> = <x, transposed(y)>, with the same weights."""
    conv, back = (
        layer(filters, 3, use_bias=False, padding=padding, **options)
        for layer, filters in ((QuaternionConv2D, 12), (QuaternionConv2DTranspose, 8))
    )
    x = random(2, 7 if padding == "valid" else 8, 9 if padding == "valid" else 8, 8)
    convolved = run(with_random_weights(conv, x.shape), x)
    y = random(*convolved.shape, seed=1)
    with_kernel(back, y.shape, array(conv.kernel))
    np.testing.assert_allclose(np.vdot(convolved, y), np.vdot(x, run(back, y)), rtol=1e-3)


def test_window_over_the_whole_map_is_flatten_and_dense():
    inputs = random(2, 3, 5, 8)
    conv = with_random_weights(QuaternionConv2D(12, (3, 5)), inputs.shape)
    layer = built(QuaternionDense(12), (2, 120))
    layer.set_weights([np.moveaxis(array(conv.kernel), 3, 1).reshape(4, 30, 3), array(conv.bias)])
    np.testing.assert_allclose(
        run(layer, run(QuaternionFlatten(), inputs)), run(conv, inputs)[:, 0, 0], rtol=1e-4, atol=1e-5
    )


@every_layer
def test_bias_is_one_per_channel_and_added(make, shape):
    """A public library has a bias in its parameterised convolution and forgets to add it."""
    biased, unbiased = (with_random_weights(make(use_bias=use_bias), shape) for use_bias in (True, False))
    unbiased.kernel.assign(biased.kernel)
    if hasattr(biased, "algebra"):
        unbiased.algebra.assign(biased.algebra)
    assert biased.bias.shape == (8,)
    assert len(unbiased.weights) == len(biased.weights) - 1
    difference = run(biased, random(*shape)) - run(unbiased, random(*shape))
    np.testing.assert_allclose(difference, np.broadcast_to(array(biased.bias), difference.shape), atol=1e-5)


@every_layer
def test_activation_takes_every_channel_on_its_own(make, shape):
    linear, rectified = (with_random_weights(make(activation=name), shape) for name in (None, "relu"))
    outputs = run(linear, random(*shape))
    assert (outputs < 0).any()
    np.testing.assert_array_equal(run(rectified, random(*shape)), np.maximum(outputs, 0))


@every_layer
def test_every_component_of_every_weight_is_trained(make, shape):
    layer = make()
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    before = [array(weight) for weight in layer.weights]
    model.train_on_batch(random(*shape), random(*model.compute_output_shape(shape), seed=1))
    for weight, old in zip(layer.weights, before, strict=True):
        assert (np.abs(array(weight) - old) > 0).all(), weight.path


@pytest.mark.parametrize("layer", [QuaternionConv2D(8, 3), QuaternionConv2DTranspose(8, 3), QuaternionConv1D(8, 3)])
def test_filters_are_counted_in_channels(layer):
    """A public library counts quaternions, and its kernel is declared with a shape that it does not have."""
    inputs = keras.Input((None,) * layer.rank + (12,))
    assert layer(inputs).shape == (None,) * (layer.rank + 1) + (8,)
    numbers = (2, 3) if isinstance(layer, QuaternionConv2DTranspose) else (3, 2)
    assert layer.kernel.shape == (4, *(3,) * layer.rank, *numbers)


@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": "same"}, {"dilation_rate": 2}], ids=str)
@pytest.mark.parametrize("layer", [QuaternionConv1D, QuaternionConv2D, QuaternionConv2DTranspose, PHMConv2D])
def test_shapes_are_known_before_the_call(layer, options):
    options = {**options, "n": 2} if layer is PHMConv2D else options
    layer = layer(4, 3, **options)
    shape = (2, *(9, 8)[: layer.rank], 8)
    assert layer.compute_output_shape(shape) == run(layer, random(*shape)).shape
    assert layer.compute_output_shape((None, *shape[1:]))[1:] == run(layer, random(*shape)).shape[1:]


def test_parameters_of_vgg16s_layers():
    channels = [4, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    counts = [
        built(QuaternionConv2D(n_out, 3), (None, 4, 4, n_in)).count_params()
        for n_in, n_out in itertools.pairwise(channels)
    ]
    assert counts == [640, 9280, 18560, 36992, 73984, 147712, 147712, 295424, *[590336] * 5]
    assert sum(counts) == 3_681_984
    assert built(QuaternionDense(4096), (None, 2048)).count_params() == 2_101_248
    assert built(QuaternionDense(4096), (None, 4096)).count_params() == 4_198_400


def test_parameters_of_rh_emos_decoder():
    layers = [QuaternionConv2DTranspose(4, 3) for _ in range(3)] + [QuaternionBatchNormalization() for _ in range(2)]
    for layer in layers:
        layer.build((None, 8, 8, 4))
    assert sum(int(np.prod(weight.shape)) for layer in layers for weight in layer.trainable_weights) == 130


# One real product, compiled


def products(layer, inputs):
    """Count the real products, convolutions and others, that one call takes."""
    layer.build(inputs.shape)
    if keras.backend.backend() == "jax":
        import jax

        program = str(jax.make_jaxpr(layer)(inputs))
        return {"conv": program.count("conv_general_dilated["), "matmul": program.count("dot_general[")}
    import tensorflow

    graph = tensorflow.function(layer).get_concrete_function(tensorflow.constant(inputs)).graph
    counts = Counter(operation.type for operation in graph.get_operations())
    return {
        "conv": counts["Conv2D"] + counts["Conv2DBackpropInput"],
        "matmul": counts["MatMul"] + counts["BatchMatMulV2"] + counts["Einsum"],
    }


@pytest.mark.skipif(keras.backend.backend() not in ("jax", "tensorflow"), reason="programs of JAX and TensorFlow only")
@every_layer
def test_call_is_one_real_product(make, shape):
    layer = make()
    expected = {"conv": 0, "matmul": 1} if len(shape) == 2 else {"conv": 1, "matmul": 0}
    if isinstance(layer, (PHMDense, PHMConv2D)):
        expected["matmul"] += 1  # of the algebra with the components
    assert products(layer, random(*shape)) == expected


def network():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((8, 6, 8)),
            QuaternionConv2D(8, 3, strides=2, padding="same", activation="elu", name="conv"),
            QuaternionBatchNormalization(name="norm"),
            QuaternionConv2DTranspose(8, 3, strides=2, padding="same", name="transposed"),
            PHMConv2D(12, 3, n=2, activation="elu", name="phm_conv"),
            QuaternionFlatten(name="components"),
            QuaternionDense(8, kernel_initializer=QuaternionInitializer("he", seed=3), name="dense"),
            keras.layers.Reshape((2, 4)),
            QuaternionConv1D(4, 2, padding="same", use_bias=False, name="conv_1d"),
            keras.layers.Flatten(),
            PHMDense(6, n=2, name="phm"),
        ]
    )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA adds in one order")
def test_no_three_gradients_are_added_at_once():
    """TensorFlow's AddN takes them as they come, so that sums of three would depend on timing."""
    import tensorflow as tf

    components = tf.Variable(np.ones((4, 3, 2), "float32"))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            value = ops.sum(hamilton_kernel(components) ** 2)
        return tape.gradient(value, components)

    operations = gradient.get_concrete_function().graph.get_operations()
    sums = [len(operation.inputs) for operation in operations if operation.type == "AddN"]
    assert sums
    assert max(sums) == 2


def test_network_is_compiled_and_trained():
    model, inputs, targets = network(), random(4, 8, 6, 8), random(4, 6, seed=1)
    before = model.get_weights()
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse", jit_compile=True)
    losses = [model.train_on_batch(inputs, targets) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert all(np.abs(new - old).max() > 0 for new, old in zip(model.get_weights(), before, strict=True))
    np.testing.assert_allclose(model.predict(inputs, verbose=0), run(model, inputs), rtol=1e-4, atol=1e-5)


def test_network_comes_back_from_its_file(tmp_path):
    model = network()
    model.layers[1].moving_variance.assign(2.0)
    model.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    inputs = random(3, 8, 6, 8)
    np.testing.assert_array_equal(run(again, inputs), run(model, inputs))
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]


@pytest.mark.parametrize(
    "layer",
    [
        QuaternionDense(8, activation="relu", use_bias=False, kernel_initializer="he_normal", name="dense"),
        QuaternionConv1D(8, 5, strides=2, padding="same", name="conv"),
        QuaternionConv2D(8, (3, 2), dilation_rate=(2, 1), activation="tanh", name="conv_2d"),
        QuaternionConv2DTranspose(8, 3, strides=(2, 1), kernel_initializer=QuaternionInitializer("he", seed=4)),
        PHMDense(9, n=3, activation="relu"),
        PHMConv2D(10, 3, n=5, strides=2, padding="same"),
        QuaternionBatchNormalization(momentum=0.7, epsilon=1e-3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_rebuilt_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert set(layer.get_config()) == set(inspect.signature(type(layer).__init__).parameters) - {"self"}


# How the weights start


@pytest.mark.parametrize(("criterion", "fans"), [("glorot", 64 + 96), ("he", 64)])
def test_variances_of_the_initializer(criterion, fans):
    """The criterion counts fans in quaternions; in real channels the deviation would be half as large."""
    kernel = array(QuaternionInitializer(criterion, seed=1)((4, 3, 3, 64, 96)))
    variance = 1 / (2 * fans * 9)
    np.testing.assert_allclose(kernel.var(axis=(1, 2, 3, 4)) / variance, [2, 2 / 3, 2 / 3, 2 / 3], rtol=0.03)
    np.testing.assert_allclose((kernel**2).sum(axis=0).mean() / variance, 4, rtol=0.03)


def test_moduli_and_directions_of_the_initializer():
    """Public libraries have a Rayleigh modulus, one from a coarse table, and vector parts of one sign."""
    kernel = array(QuaternionInitializer("he", seed=2)((4, 256, 256))).reshape(4, -1)
    modulus = np.linalg.norm(kernel, axis=0) * np.sqrt(2 * 256)
    np.testing.assert_allclose([modulus.mean(), (modulus**2).mean()], [0.75 * np.sqrt(2 * np.pi), 4], rtol=0.01)
    assert len(np.unique(modulus)) > 0.9 * len(modulus)
    axis = kernel[1:] / np.linalg.norm(kernel[1:], axis=0)
    np.testing.assert_allclose(axis @ axis.T / len(modulus), np.eye(3) / 3, atol=0.01)
    np.testing.assert_allclose((axis**4).mean(axis=1), 1 / 5, rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(kernel), np.eye(4), atol=0.02)
    np.testing.assert_allclose(np.corrcoef(modulus, np.abs(kernel[0]) / modulus)[0, 1], 0, atol=0.02)


@pytest.mark.parametrize(
    ("layer", "gain"),
    [
        (QuaternionDense(512, kernel_initializer=QuaternionInitializer("he", seed=1)), 2),
        (QuaternionDense(512, kernel_initializer=QuaternionInitializer("glorot", seed=1)), 2 * 256 / (256 + 512)),
        (QuaternionDense(512, kernel_initializer=keras.initializers.HeNormal(seed=1)), 2),
    ],
    ids=["he", "glorot", "real he"],
)
def test_layers_pass_the_variance_of_their_criterion(layer, gain):
    assert run(layer, random(64, 256)).var() == pytest.approx(gain, rel=0.05)


def test_phm_kernel_has_the_variance_of_its_components_at_the_start():
    layer = PHMDense(64, n=32)
    layer.build((None, 64))
    kernel = array(layer.real_kernel())
    assert kernel.var() == pytest.approx(2 / 128, rel=0.1)
    assert array(layer.algebra).var() == pytest.approx(1 / 32, rel=0.03)


@pytest.mark.parametrize("initializer", [None, QuaternionInitializer("he")], ids=["default", "shared"])
def test_kernels_of_layers_start_different(initializer):
    """A public library restarts its generator for every layer: equal shapes, equal moduli."""
    first, second = (QuaternionDense(64, kernel_initializer=initializer) for _ in range(2))
    kernels = []
    for layer in (first, second):
        layer.build((None, 64))
        kernels.append(array(layer.kernel).reshape(4, -1))
    moduli = [np.linalg.norm(kernel, axis=0) for kernel in kernels]
    assert abs(np.corrcoef(*moduli)[0, 1]) < 0.25
    assert abs(np.corrcoef(*(kernel.ravel() for kernel in kernels))[0, 1]) < 0.15


def test_seeds_make_kernels_again():
    shape = (4, 3, 8, 8)
    np.testing.assert_array_equal(*(array(QuaternionInitializer(seed=7)(shape)) for _ in range(2)))
    kernels = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        kernels.append(array(QuaternionInitializer()(shape)))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0


# Batch normalisation


def normalize(inputs, mean, variance, gamma, beta, epsilon=1e-5):
    centred = unpack(inputs) - mean
    return pack(gamma[:, None] * centred / np.sqrt(variance + epsilon)) + beta


def statistics(inputs):
    quaternions = unpack(inputs).reshape(-1, 4)
    mean = quaternions.mean(axis=0)
    return mean, np.square(quaternions - mean).sum(axis=1).mean()


def test_batch_norm_of_two_quaternions():
    outputs = run(QuaternionBatchNormalization(), np.arange(1, 9).reshape(2, 1, 1, 4), training=True)
    np.testing.assert_allclose(outputs.reshape(2, 4), [[-0.5] * 4, [0.5] * 4], rtol=1e-5)


def test_batch_norm_computes_its_equation():
    """Positions have means of their own: a public library subtracts those and not the layer's."""
    inputs = random(3, 4, 5, 8) * np.repeat([3, 0.5, 1, 2], 2) + random(4, 5, 8, seed=1) + np.arange(8)
    layer = with_random_weights(QuaternionBatchNormalization(), inputs.shape)
    gamma, beta = array(layer.gamma), array(layer.beta)
    expected = normalize(inputs, *statistics(inputs), gamma, beta)
    np.testing.assert_allclose(run(layer, inputs, training=True), expected, rtol=1e-3, atol=1e-4)


def test_batch_norm_divides_by_one_deviation():
    """A public library multiplies by the deviations, to (8.9, 0.25, 1, 4)."""
    deviations = np.array([3, 0.5, 1, 2])
    inputs = random(20_000, 8) * np.repeat(deviations, 2)
    outputs = unpack(run(QuaternionBatchNormalization(), inputs, training=True)).reshape(-1, 4)
    assert outputs.var(axis=0).sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(outputs.std(axis=0), deviations / np.sqrt(np.square(deviations).sum()), rtol=0.02)


def test_batch_norm_in_inference_takes_the_stored_statistics():
    layer = QuaternionBatchNormalization(momentum=0.9)
    inputs = random(6, 3, 3, 8) + 2
    untrained = run(layer, inputs)
    np.testing.assert_allclose(untrained, inputs / np.sqrt(1 + 1e-5), rtol=1e-5)
    run(layer, inputs, training=True)
    mean, variance = statistics(inputs)
    np.testing.assert_allclose(array(layer.moving_mean), 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(array(layer.moving_variance), 0.9 + 0.1 * variance, rtol=1e-4)
    expected = normalize(inputs, 0.1 * mean, 0.9 + 0.1 * variance, np.ones(2), np.zeros(8))
    np.testing.assert_allclose(run(layer, inputs), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run(layer, inputs[:1]), run(layer, inputs)[:1])


def test_frozen_batch_norm_keeps_its_statistics_in_training():
    layer = QuaternionBatchNormalization()
    layer.trainable = False
    inputs = random(6, 8) + 2
    np.testing.assert_array_equal(run(layer, inputs, training=True), run(layer, inputs, training=False))
    np.testing.assert_array_equal(array(layer.moving_mean), np.zeros(4))


# Flatten


def test_flatten_keeps_components_together():
    """Keras's own repeats the components at every position."""
    components = np.broadcast_to(np.repeat(np.arange(4), 2), (1, 2, 2, 8))
    np.testing.assert_array_equal(run(QuaternionFlatten(), components)[0], np.repeat(np.arange(4), 8))
    np.testing.assert_array_equal(run(keras.layers.Flatten(), components)[0, :8], [0, 0, 1, 1, 2, 2, 3, 3])


def test_flatten_has_the_order_of_channels_first():
    inputs = random(3, 4, 5, 8)
    flat = run(QuaternionFlatten(), inputs)
    np.testing.assert_array_equal(flat, inputs.transpose(0, 3, 1, 2).reshape(3, -1))
    assert flat[1, (5 * 4 + 2) * 5 + 3] == inputs[1, 2, 3, 5]
    assert QuaternionFlatten()(keras.Input((4, 5, 8))).shape == (None, 160)
    assert QuaternionFlatten()(keras.Input((2, 2, 512))).shape == (None, 2048)


def test_flatten_and_dense_commute_with_a_factor_from_the_right():
    """(w x) p = w (x p) holds only where the components of one number meet."""
    inputs, factor = random(2, 3, 2, 8), np.array([0.5, -1, 2, 1])
    layer = with_random_weights(QuaternionDense(8, use_bias=False), (None, 48))
    turned = pack(hamilton(unpack(inputs), factor))
    outputs = [run(layer, run(QuaternionFlatten(), values)) for values in (inputs, turned)]
    np.testing.assert_allclose(pack(hamilton(unpack(outputs[0]), factor)), outputs[1], rtol=1e-4, atol=1e-4)


# Parameterised products


@pytest.mark.parametrize(
    ("quaternion", "phm", "shape"),
    [
        (QuaternionDense(8), PHMDense(8, n=4), (2, 12)),
        (
            QuaternionConv2D(8, (3, 2), strides=2, padding="same"),
            PHMConv2D(8, (3, 2), n=4, strides=2, padding="same"),
            (2, 5, 6, 12),
        ),
    ],
    ids=["dense", "conv2d"],
)
def test_phm_with_the_quaternions_algebra_is_the_quaternion_layer(quaternion, phm, shape):
    with_random_weights(quaternion, shape)
    built(phm, shape).set_weights([*quaternion.get_weights(), QUATERNION_ALGEBRA])
    np.testing.assert_allclose(run(phm, random(*shape)), run(quaternion, random(*shape)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_phm_kernel_is_a_sum_of_kronecker_products(n):
    algebra, components = random(n, n, n), random(n, 3, 2, 4, 5, seed=1)
    kernel = ops.convert_to_numpy(phm_kernel(algebra, components))
    assert kernel.shape == (3, 2, 4 * n, 5 * n)
    for tap in np.ndindex(3, 2):
        # A is (out, in) as matrices are, F is (in, out) as kernels are.
        expected = sum(np.kron(algebra[s].T, components[(s, *tap)]) for s in range(n))
        np.testing.assert_allclose(kernel[tap], expected, rtol=1e-4, atol=1e-5)


def test_phm_of_one_component_is_a_real_layer():
    layer = with_random_weights(PHMDense(5, n=1), (None, 3))
    expected = array(layer.algebra)[0, 0, 0] * (random(2, 3) @ array(layer.kernel)[0]) + array(layer.bias)
    np.testing.assert_allclose(run(layer, random(2, 3)), expected, rtol=1e-5)


def test_phm_of_two_components_multiplies_complex_numbers():
    layer = built(PHMDense(2, n=2, use_bias=False), (None, 2))
    layer.set_weights([np.reshape([3, 2], (2, 1, 1)), np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]]])])
    product = (3 + 2j) * (5 - 7j)
    np.testing.assert_array_equal(run(layer, [[5, -7]]), [[product.real, product.imag]])


def test_phm_has_about_one_nth_of_the_weights():
    layer = built(PHMConv2D(30, 3, n=3), (None, 8, 8, 60))
    assert layer.count_params() == 3 * 3 * 60 * 30 // 3 + 3**3 + 30


# Errors


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (QuaternionDense(6, name="fc"), (2, 8), "fc has 8 channels in and 6 out; both must be multiples of 4, "),
        (QuaternionDense(8, name="fc"), (2, 7), "fc has 7 channels in and 8 out; both must be multiples of 4, "),
        (QuaternionConv1D(8, 3, name="conv"), (2, 9, 2), "conv has 2 channels in and 8 out; "),
        (QuaternionConv2D(8, 3, name="conv"), (2, 8, 8, 1), "conv has 1 channels in and 8 out; "),
        (QuaternionConv2DTranspose(5, 3, name="up"), (2, 8, 8, 4), "up has 4 channels in and 5 out; "),
        (QuaternionBatchNormalization(name="norm"), (2, 6), "norm has 6 channels in and 6 out; "),
        (PHMDense(6, n=3, name="phm"), (2, 8), "phm has 8 channels in and 6 out; both must be multiples of 3, "),
    ],
)
def test_channels_that_make_no_blocks_are_refused(layer, shape, message):
    with pytest.raises(ConfigError) as caught:
        layer(random(*shape))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [0, -2])
def test_number_without_components_is_refused(n):
    with pytest.raises(ConfigError, match=f"^n is {n}; a number has at least 1 component"):
        PHMDense(8, n=n)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match=r"^Unknown criterion 'gloriot'. Did you mean 'glorot'\?"):
        QuaternionInitializer("gloriot")
    with pytest.raises(UnknownNameError, match=r"^Unknown padding 'causal'. .*Known: same, valid"):
        QuaternionConv1D(8, 3, padding="causal")
