"""Runs a network over a large batch in chunks, with the memory of a small batch."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute

# Each replica traces its step in its own thread.
_LOCAL = threading.local()


def chunk_count() -> int:
    """Returns the number of chunks of the current `in_chunks` call; 1 outside of it."""
    return getattr(_LOCAL, "count", 1)


def check_chunks(chunks: Any, batch: int | None = None, replicas: int = 1):
    """Raises ValueError unless `chunks` is a positive integer that divides each replica's batch.

    Args:
        chunks: the value to check.
        batch: global batch size; `None` if it is not known yet.
        replicas: number of replicas that share the batch.
    """
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
        raise ValueError(f"`chunks` must be an integer of at least 1. Received: chunks={chunks!r}")
    if chunks > 1 and batch is not None and batch % (chunks * replicas):
        raise ValueError(
            "`chunks` must divide the batch of each replica evenly. "
            f"Received: chunks={chunks}, {replicas} replica(s), a batch of {batch} images"
        )


def in_chunks(
    network: keras.Model, images: tf.Tensor, chunks: int, training: bool = True
) -> tf.Tensor:
    """Computes a network's features of a batch in contiguous chunks, one after the other.

    No activations are kept. The backward pass recomputes each chunk and backpropagates through it at
    once, so that only one chunk's activations are in memory. This costs about a third more computation.
    Features and gradients are those of the full batch.

    The recomputation starts from the same state as the forward pass (dropout masks are equal) and does
    not change it. Floating-point state, such as moving statistics, is updated once per call, with the
    mean of the chunks' updates. Integer state, such as that of a random generator, is passed from chunk
    to chunk. Losses added with `add_loss` are averaged over the chunks, as they are over replicas.

    Batch normalization uses the statistics of one chunk at a time, like `split_batch_norm` with as many
    groups. If it is already split, the chunks share the groups and the result does not change. Random
    numbers must come from a `keras.random.SeedGenerator`, as in Keras' layers.

    Args:
        network: built `keras.Model` that maps images to features.
        images: `(batch, height, width, channels)`. No gradient flows to them.
        chunks: number of chunks; 1 calls the network directly.
        training: passed to the network.

    Returns:
        `(batch, features)` tensor; of a network that returns feature maps, `(batch, height, width,
        channels)`.

    Raises:
        ValueError: if `chunks` is not a positive integer or does not divide the batch.
        tf.errors.InvalidArgumentError: in the step, if `chunks` does not divide a batch whose size is
            unknown when the graph is built.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny((8, 8, 3))
        >>> in_chunks(backbone, keras.ops.ones((8, 8, 8, 3)), chunks=4).shape
        TensorShape([8, 64])

    Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    section 3; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", for recomputation.
    """
    check_chunks(chunks, images.shape[0])
    if chunks == 1:
        return network(images, training=training)
    chunked = _Pass(network, images, chunks, training)
    ticket = getattr(_LOCAL, "ticket", None)
    features, penalty, done, *state = chunked.differentiable()(
        tf.zeros(()) if ticket is None else ticket, *chunked.weights
    )
    if ticket is not None:
        _LOCAL.ticket = done
    if chunked.has_penalty:
        network.add_loss(penalty)
    for place in chunked.changed:
        variable = network.non_trainable_variables[place]
        variable.assign(tf.cast(state[place], variable.dtype))
    return features


@contextlib.contextmanager
def sequential_passes() -> Iterator[None]:
    """Context in which calls of `in_chunks` run one after the other, forward and backward."""
    # Two views are independent, so TensorFlow would compute them in parallel and need memory for both.
    _LOCAL.ticket = tf.zeros(())
    try:
        yield
    finally:
        del _LOCAL.ticket


class _Pass:
    """One call of `in_chunks`: the forward pass and the recomputation in the backward pass.

    Attributes:
        weights: values of the network's trainable variables.
        changed: indices in the network's `non_trainable_variables` of those that the pass updates.
        has_penalty: whether the network's layers added losses.
    """

    def __init__(self, network: keras.Model, images: tf.Tensor, count: int, training: bool):
        self._network = network
        self._images = _split(images, count)  # (count, chunk, height, width, channels)
        self._count = count
        self._training = training
        self.weights = [tf.convert_to_tensor(v) for v in network.trainable_variables]
        # Read before the pass updates them: the recomputation starts from the same values.
        self._state = [tf.convert_to_tensor(v) for v in network.non_trainable_variables]
        self.changed: set[int] = set()
        self.has_penalty = False

    def differentiable(self) -> Callable:
        """Returns a function (ticket, *weights) -> (features, penalty, ticket, *state).

        A ticket is a number that orders computations: what depends on it waits for its computation.
        Its gradient does the same in the backward pass.
        """

        @tf.custom_gradient
        def run(ticket, *weights):
            # Stopped gradients, so that the tape keeps nothing of the forward pass.
            values = [tf.stop_gradient(weight) for weight in weights]
            features, penalty, done, *state = self._forward(values, ticket)

            def grad(d_features, d_penalty, d_ticket, *_):
                if not values:
                    return d_ticket
                # Wait for this pass, for the backward passes of later ones, and for the batch's loss.
                start = done + d_ticket + _ticket(d_features)
                return self._backward(values, d_features, d_penalty, start)

            return (features, penalty, done, *state), grad

        return run

    def _forward(self, weights: list, ticket: tf.Tensor) -> tuple:
        output = self._network.outputs[0]
        images = self._images
        # (features,), or the shape of a feature map, which depends on that of the images.
        shape = self._network.compute_output_shape((None, *images.shape[2:]))[1:]
        features = tf.zeros((self._count, tf.shape(images)[1], *shape), output.dtype)
        updates = [tf.zeros_like(v) if v.dtype.is_floating else v for v in self._state]

        def step(number, ticket, features, penalty, *updates):
            h, added, state = self._chunk(number, ticket, weights, updates)
            for place, (old, new) in enumerate(zip(self._state, state, strict=True)):
                if old.dtype.is_floating:
                    state[place] = updates[place] + (new - old) / self._count
            features = tf.tensor_scatter_nd_update(features, [[number]], h[None])
            return _ticket(h), features, penalty + added, *state

        ticket, features, penalty, *updates = _run_steps(
            step, self._count, (ticket, features, tf.zeros(()), *updates)
        )
        state = [
            old + update if old.dtype.is_floating else update
            for old, update in zip(self._state, updates, strict=True)
        ]
        return tf.reshape(features, (-1, *shape)), penalty, ticket, *state

    def _backward(
        self, weights: list, d_features: tf.Tensor, d_penalty: tf.Tensor, ticket: tf.Tensor
    ) -> tuple:
        """Returns the gradients of the ticket and of the weights."""
        d_parts = _split(d_features, self._count)

        def step(number, ticket, sums, state):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                h, penalty, state = self._chunk(number, ticket, weights, state)
            gradients = tape.gradient(
                [h, penalty],
                weights,
                output_gradients=[tf.gather(d_parts, number), d_penalty],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            sums = [sum_ + tf.convert_to_tensor(d) for sum_, d in zip(sums, gradients, strict=True)]
            # The first layer's gradient is computed last, so the ticket depends on it alone. It must
            # not depend on all gradients: if a bias has the same gradient in every chunk, oneDNN
            # computes it in only one of them, and chunks would wait for each other.
            return _ticket(sums[0]), sums, state

        sums = [tf.zeros_like(weight) for weight in weights]
        ticket, sums, _ = _run_steps(step, self._count, (ticket, sums, self._state))
        return ticket, *sums

    def _chunk(self, number, ticket: tf.Tensor, weights: list, carried) -> tuple:
        """Computes one chunk; returns its features, its share of the penalty, and the new state."""
        network = self._network
        state = [
            start if start.dtype.is_floating else value
            for start, value in zip(self._state, carried, strict=True)
        ]
        values = [
            *zip(network.trainable_variables, weights, strict=True),
            *zip(network.non_trainable_variables, state, strict=True),
        ]
        images = _wait_for(ticket, tf.gather(self._images, number))
        images = tf.ensure_shape(images, self._images.shape[1:])
        with keras.StatelessScope(values, collect_losses=True) as scope, _count_scope(self._count):
            h = network(images, training=self._training)
        new = [scope.get_current_value(v) for v in network.non_trainable_variables]
        self.changed.update(i for i, value in enumerate(new) if value is not state[i])
        self.has_penalty = bool(scope.losses)
        penalty = sum((tf.cast(loss, tf.float32) for loss in scope.losses), tf.zeros(()))
        return h, penalty / self._count, new


@contextlib.contextmanager
def _count_scope(count: int) -> Iterator[None]:
    before, _LOCAL.count = chunk_count(), count
    try:
        yield
    finally:
        _LOCAL.count = before


def _run_steps(step: Callable, count: int, values: tuple) -> tuple:
    """Runs `values = step(number, *values)` for each number from 0 to `count - 1`."""
    if distribute.replica_count() == 1:
        # With a loop, the graph contains one chunk only.
        _, *values = tf.while_loop(
            lambda number, *_: number < count,
            lambda number, *values: (number + 1, *step(number, *values)),
            (0, *values),
            parallel_iterations=1,
            maximum_iterations=count,
        )
        return tuple(values)
    # Replicas cannot communicate inside a loop, so the loop is unrolled.
    for number in range(count):
        values = step(number, *values)
    return values


def _split(values: tf.Tensor, count: int) -> tf.Tensor:
    """Returns `(batch, ...)` values as `(count, batch / count, ...)`."""
    shape = tf.shape(values)
    batch = values.shape[0]
    if batch is None:
        message = f"`chunks` must divide the batch of each replica evenly. Received: chunks={count}"
        # The shape depends on the check, which must fail before the reshape does.
        with tf.control_dependencies([tf.debugging.assert_equal(shape[0] % count, 0, message)]):
            shape = tf.identity(shape)
    parts = tf.reshape(values, tf.concat([[count, shape[0] // count], shape[1:]], axis=0))
    return tf.ensure_shape(parts, (count, batch and batch // count, *values.shape[1:]))


def _ticket(value: tf.Tensor) -> tf.Tensor:
    """Returns a number that is available only when the value is."""
    return tf.reduce_sum(tf.cast(tf.reshape(value, [-1])[:1], tf.float32))


def _wait_for(ticket: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns `values` unchanged, but only after the ticket is available."""
    # XLA ignores control dependencies and would merge the recomputation with the forward pass. It does
    # not detect that a boolean shifted right by one is always zero.
    zero = tf.bitwise.right_shift(tf.cast(tf.cast(ticket, tf.bool), tf.int32), 1)
    return values + tf.cast(zero, values.dtype)
