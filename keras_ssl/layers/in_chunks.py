"""A network's pass over a large batch with the memory of a small one."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_ssl import distribute

# Each replica traces its step in a thread of its own.
_LOCAL = threading.local()


def chunk_count() -> int:
    """Returns how many chunks the pass under way is made in; 1 outside `in_chunks`."""
    return getattr(_LOCAL, "count", 1)


def check_chunks(chunks: Any, batch: int | None = None, replicas: int = 1):
    """Raises ValueError unless `chunks` is a positive integer that divides each replica's batch.

    Args:
        chunks: what was asked for.
        batch: images of all replicas; `None` where that is not known yet.
        replicas: that share the batch.
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
    """Returns a network's features of a batch, computed in contiguous chunks, one after the other.

    No activations are kept. When the gradient comes back, each chunk is computed again and
    backpropagated at once, so that only one chunk's activations are in memory, for about a third more
    work. Features and gradients are those of the whole batch.

    The second computation begins from the same state as the first (dropout masks are equal) and leaves
    none behind. State of floating point, such as moving statistics, takes the mean of what the chunks
    would each make of it: it moves once per call. Integer state, such as that of a random generator,
    goes from chunk to chunk. What `add_loss` adds counts as the mean of the chunks', as it does over
    replicas.

    Batch normalisation sees a chunk at a time, which is `split_batch_norm` with as many groups. Where
    it is split already, the chunks share the groups, and nothing changes. Random numbers must come from
    a `keras.random.SeedGenerator`, as those of Keras' layers do.

    Args:
        network: built `keras.Model` that maps images to features.
        images: `(batch, height, width, channels)`. No gradient flows to them.
        chunks: number of chunks; 1 calls the network as it is.
        training: passed to the network.

    Returns:
        `(batch, features)` tensor.

    Raises:
        ValueError: if `chunks` is not a positive integer or does not divide the batch. Where the batch
            is not known when the graph is made, `tf.errors.InvalidArgumentError` in the step.

    Example:
        >>> backbone = keras_ssl.backbones.Tiny((8, 8, 3))
        >>> in_chunks(backbone, keras.ops.ones((8, 8, 8, 3)), chunks=4).shape
        TensorShape([8, 64])

    Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    section 3; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", for computing again.
    """
    check_chunks(chunks, images.shape[0])
    if chunks == 1:
        return network(images, training=training)
    whole = _Pass(network, images, chunks, training)
    ticket = getattr(_LOCAL, "ticket", None)
    features, penalty, done, *moved = whole.differentiable()(
        tf.zeros(()) if ticket is None else ticket, *whole.weights
    )
    if ticket is not None:
        _LOCAL.ticket = done
    if whole.has_penalty:
        network.add_loss(penalty)
    for place in whole.changed:
        variable = network.non_trainable_variables[place]
        variable.assign(tf.cast(moved[place], variable.dtype))
    return features


@contextlib.contextmanager
def passes_in_turn() -> Iterator[None]:
    """A scope in which a pass of `in_chunks` begins when the one before it is done, also backwards."""
    # Two views have nothing to do with each other, and TensorFlow would compute them side by side.
    _LOCAL.ticket = tf.zeros(())
    try:
        yield
    finally:
        del _LOCAL.ticket


class _Pass:
    """One pass over a batch: what its two computations have in common.

    Attributes:
        weights: values of the network's trainable variables.
        changed: places in the network's `non_trainable_variables` of those that the pass moves.
        has_penalty: whether the network's layers added losses.
    """

    def __init__(self, network: keras.Model, images: tf.Tensor, count: int, training: bool):
        self._network = network
        self._images = _parts(images, count)  # (count, chunk, height, width, channels)
        self._count = count
        self._training = training
        self.weights = [tf.convert_to_tensor(v) for v in network.trainable_variables]
        # Read before the pass moves them: the second computation begins with the same.
        self._state = [tf.convert_to_tensor(v) for v in network.non_trainable_variables]
        self.changed: set[int] = set()
        self.has_penalty = False

    def differentiable(self) -> Callable:
        """Returns a function (ticket, *weights) -> (features, penalty, ticket, *state).

        A ticket is a number that tells whoever depends on it that something is done; its gradient
        does so on the way back.
        """

        @tf.custom_gradient
        def both_ways(ticket, *weights):
            # No tape follows these: nothing of the first computation is to be kept.
            values = [tf.stop_gradient(weight) for weight in weights]
            features, penalty, done, *state = self._forwards(values, ticket)

            def backwards(d_features, d_penalty, d_ticket, *_):
                if not values:
                    return d_ticket
                # Not before this pass is done, nor those behind it, nor the whole batch's loss.
                begin = done + d_ticket + _ticket(d_features)
                return self._backwards(values, d_features, d_penalty, begin)

            return (features, penalty, done, *state), backwards

        return both_ways

    def _forwards(self, weights: list, ticket: tf.Tensor) -> tuple:
        output = self._network.outputs[0]
        images = self._images
        features = tf.zeros((self._count, tf.shape(images)[1], output.shape[-1]), output.dtype)
        moves = [tf.zeros_like(v) if v.dtype.is_floating else v for v in self._state]

        def step(number, ticket, features, penalty, *moves):
            h, added, state = self._chunk(number, ticket, weights, moves)
            for place, (old, new) in enumerate(zip(self._state, state, strict=True)):
                if old.dtype.is_floating:
                    state[place] = moves[place] + (new - old) / self._count
            features = tf.tensor_scatter_nd_update(features, [[number]], h[None])
            return _ticket(h), features, penalty + added, *state

        ticket, features, penalty, *moves = _in_turn(
            step, self._count, (ticket, features, tf.zeros(()), *moves)
        )
        state = [
            old + move if old.dtype.is_floating else move
            for old, move in zip(self._state, moves, strict=True)
        ]
        return tf.reshape(features, (-1, output.shape[-1])), penalty, ticket, *state

    def _backwards(
        self, weights: list, d_features: tf.Tensor, d_penalty: tf.Tensor, ticket: tf.Tensor
    ) -> tuple:
        """Returns the gradients of the ticket and of each of the weights."""
        d_parts = _parts(d_features, self._count)

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
            # The gradient of the first layer is the last to come. Not those of all: where a bias has
            # the same in every chunk, oneDNN computes it in any of them, and chunks would wait for
            # each other.
            return _ticket(sums[0]), sums, state

        sums = [tf.zeros_like(weight) for weight in weights]
        ticket, sums, _ = _in_turn(step, self._count, (ticket, sums, self._state))
        return ticket, *sums

    def _chunk(self, number, ticket: tf.Tensor, weights: list, carried) -> tuple:
        """Computes one chunk; returns features, its share of penalties, and the state behind it."""
        network = self._network
        state = [
            start if start.dtype.is_floating else value
            for start, value in zip(self._state, carried, strict=True)
        ]
        values = [
            *zip(network.trainable_variables, weights, strict=True),
            *zip(network.non_trainable_variables, state, strict=True),
        ]
        images = _after(ticket, tf.gather(self._images, number))
        images = tf.ensure_shape(images, self._images.shape[1:])
        with keras.StatelessScope(values, collect_losses=True) as scope, _counted(self._count):
            h = network(images, training=self._training)
        new = [scope.get_current_value(v) for v in network.non_trainable_variables]
        self.changed.update(i for i, value in enumerate(new) if value is not state[i])
        self.has_penalty = bool(scope.losses)
        penalty = sum((tf.cast(loss, tf.float32) for loss in scope.losses), tf.zeros(()))
        return h, penalty / self._count, new


@contextlib.contextmanager
def _counted(count: int) -> Iterator[None]:
    before, _LOCAL.count = chunk_count(), count
    try:
        yield
    finally:
        _LOCAL.count = before


def _in_turn(step: Callable, count: int, values: tuple) -> tuple:
    """Computes `values = step(number, *values)` for 0 to `count - 1`."""
    if distribute.replica_count() == 1:
        # The graph holds one chunk, however many there are.
        _, *values = tf.while_loop(
            lambda number, *_: number < count,
            lambda number, *values: (number + 1, *step(number, *values)),
            (0, *values),
            parallel_iterations=1,
            maximum_iterations=count,
        )
        return tuple(values)
    # Replicas cannot communicate within a loop: the chunks stand one behind the other.
    for number in range(count):
        values = step(number, *values)
    return values


def _parts(values: tf.Tensor, count: int) -> tf.Tensor:
    """Returns `(batch, ...)` values as `(count, batch / count, ...)`."""
    shape = tf.shape(values)
    batch = values.shape[0]
    if batch is None:
        message = f"`chunks` must divide the batch of each replica evenly. Received: chunks={count}"
        tf.debugging.assert_equal(shape[0] % count, 0, message)
    parts = tf.reshape(values, tf.concat([[count, shape[0] // count], shape[1:]], axis=0))
    return tf.ensure_shape(parts, (count, batch and batch // count, *values.shape[1:]))


def _ticket(value: tf.Tensor) -> tf.Tensor:
    """Returns a number that is there when the value is."""
    return tf.reduce_sum(tf.cast(tf.reshape(value, [-1])[:1], tf.float32))


def _after(ticket: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns `values`, unchanged, when the ticket is there."""
    # XLA heeds no control dependency, and would merge the second computation with the first. That
    # half of a truth value is zero, whatever the number, is more than it sees.
    zero = tf.bitwise.right_shift(tf.cast(tf.cast(ticket, tf.bool), tf.int32), 1)
    return values + tf.cast(zero, values.dtype)
