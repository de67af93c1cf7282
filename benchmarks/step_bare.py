"""A minimal SimCLR step in plain TensorFlow: the lower bound for `fit` in `benchmarks.step`.

It is one graph without Keras layers: a forward pass of both views through a ResNet and a projection
head, NT-Xent, gradients, and SGD with momentum. There are no metrics, callbacks or penalties.
"""

from collections.abc import Callable

import tensorflow as tf

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_TEMPERATURE = 0.5


def simclr_step(
    depth: int, image_size: int, precision: str, jit_compile: bool
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function that trains on two (batch, side, side, 3) views and returns the loss."""
    network = _Network(tf.bfloat16 if precision == "bfloat16" else tf.float32, image_size <= 64)

    def compute_loss(view_1, view_2):
        h = network.resnet(tf.concat([view_1, view_2], axis=0), depth)
        z = network.head(h, 128)
        return _nt_xent(tf.cast(z, tf.float32))

    def step(view_1, view_2):
        network.place = 0
        with tf.GradientTape() as tape:
            loss = compute_loss(view_1, view_2)
        variables = network.trainable
        for pair in zip(variables, tape.gradient(loss, variables), strict=True):
            network.apply_gradient(*pair)
        return loss

    # One eager call on tiny images creates the variables.
    side = 32 if image_size <= 64 else 64
    compute_loss(*2 * (tf.zeros((2, side, side, 3)),))
    network.add_momentums()
    return tf.function(step, jit_compile=jit_compile, autograph=False)


class _Network:
    """Creates variables in the first pass, and returns them in the same order in later passes."""

    def __init__(self, dtype: tf.DType, small: bool):
        self._dtype = dtype
        self._small = small
        self._variables: list[tf.Variable] = []
        self.place = 0

    @property
    def trainable(self) -> list[tf.Variable]:
        return [variable for variable in self._variables if variable.trainable]

    def add_momentums(self):
        self._momentums = {v.ref(): tf.Variable(tf.zeros_like(v)) for v in self.trainable}

    def apply_gradient(self, variable: tf.Variable, gradient: tf.Tensor):
        buffer = self._momentums[variable.ref()]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=buffer.handle,
            lr=0.06,
            grad=tf.cast(gradient, tf.float32),
            momentum=0.9,
        )

    def resnet(self, x: tf.Tensor, depth: int) -> tf.Tensor:
        x = tf.cast(x, self._dtype)
        x = self._norm_relu(self._convolution(x, 64, *((3, 1) if self._small else (7, 2))))
        if not self._small:
            x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        for stage, blocks in enumerate(_BLOCKS[depth]):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                x = self._block(x, 64 * 2**stage, stride, wide=depth >= 50)
        return tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2))

    def head(self, h: tf.Tensor, units: int) -> tf.Tensor:
        h = self._norm_relu(self._dense(h, h.shape[-1]))
        return self._norm(self._dense(h, units))

    def _block(self, x: tf.Tensor, filters: int, stride: int, wide: bool) -> tf.Tensor:
        shortcut, outputs = x, 4 * filters if wide else filters
        if wide:
            x = self._norm_relu(self._convolution(x, filters, 1, 1))
            x = self._norm_relu(self._convolution(x, filters, 3, stride))
            x = self._norm(self._convolution(x, outputs, 1, 1))
        else:
            x = self._norm_relu(self._convolution(x, filters, 3, stride))
            x = self._norm(self._convolution(x, filters, 3, 1))
        if shortcut.shape[-1] != outputs or stride > 1:
            shortcut = self._norm(self._convolution(shortcut, outputs, 1, stride))
        return tf.nn.relu(x + shortcut)

    def _variable(self, shape: tuple, initializer: Callable, trainable: bool = True) -> tf.Variable:
        if self.place == len(self._variables):
            self._variables.append(tf.Variable(initializer(shape), trainable=trainable))
        self.place += 1
        return self._variables[self.place - 1]

    def _convolution(self, x: tf.Tensor, filters: int, size: int, stride: int) -> tf.Tensor:
        initializer = tf.keras.initializers.VarianceScaling(2, "fan_out")
        kernel = self._variable((size, size, x.shape[-1], filters), initializer)
        # Explicit padding: oneDNN has no gradient for padding in the convolution, and Eigen's is slow.
        if stride > 1 and size > 1:
            x = tf.pad(x, [[0, 0], *[[size // 2] * 2] * 2, [0, 0]])
        padding = "VALID" if stride > 1 else "SAME"
        return tf.nn.conv2d(x, tf.cast(kernel, x.dtype), stride, padding)

    def _dense(self, x: tf.Tensor, units: int) -> tf.Tensor:
        kernel = self._variable((x.shape[-1], units), tf.keras.initializers.GlorotUniform())
        return tf.cast(x, self._dtype) @ tf.cast(kernel, self._dtype)

    def _norm_relu(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(self._norm(x))

    def _norm(self, x: tf.Tensor) -> tf.Tensor:
        gamma = self._variable((x.shape[-1],), tf.ones)
        beta = self._variable((x.shape[-1],), tf.zeros)
        means = self._variable((x.shape[-1],), tf.zeros, trainable=False)
        variances = self._variable((x.shape[-1],), tf.ones, trainable=False)
        images = x if len(x.shape) == 4 else x[:, None, None]
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(images, gamma, beta, epsilon=1e-5)
        means.assign(0.9 * means + 0.1 * mean)
        variances.assign(0.9 * variances + 0.1 * variance)
        return tf.reshape(y, tf.shape(x))


def _nt_xent(z: tf.Tensor) -> tf.Tensor:
    z = tf.math.l2_normalize(z, axis=-1)
    count = tf.shape(z)[0]
    logits = z @ tf.transpose(z) / _TEMPERATURE
    logits = tf.linalg.set_diag(logits, tf.fill([count], -1e9))
    partner = tf.roll(tf.range(count), count // 2, 0)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(partner, logits))
