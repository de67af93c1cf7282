"""Logarithms of sums over all similarities, without ever holding all similarities.

The negatives of a large batch make a matrix that is far larger than the embeddings: 16,384 views are
a gigabyte of similarities in float32, and what the gradient keeps of them as much again, twice. Here
they are computed in blocks that stay in the processor's cache; a sum for each row is all that is
kept, and the gradient computes the blocks again.

Embeddings have length 1, so no similarity exceeds 1 / temperature. That takes the place of each row's
largest in the exponentials, as long as the smallest does not vanish: down to `LEAST_TEMPERATURE`.
Below it the largest of each row are looked for first, in a pass of their own.

Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", and Dao et al. 2022,
"FlashAttention", for sums by blocks and their gradients.
"""

import tensorflow as tf

# exp(-2 / 0.025) is 2e-35, which float32 holds with all its digits.
LEAST_TEMPERATURE = 0.025
# Up to here, 16 MiB in float32, all similarities at once are as fast, and simpler.
MOST_AT_ONCE = 2**22
_BLOCK = 2**20  # similarities of a block: 4 MiB in float32
_SIDES = (1024, 256)  # largest and smallest side of a square block


def is_worthwhile(rows: int | None, columns: int | None) -> bool:
    """Returns whether similarities of this number, known when the graph is made, want blocks."""
    return rows is not None and columns is not None and rows * columns > MOST_AT_ONCE


def among_others(z: tf.Tensor, temperature: float, sides: tuple[int, int] = _SIDES) -> tf.Tensor:
    """Returns log(sum_j exp(z_i . z_j / temperature)) over all rows j other than i.

    Similarities are symmetric: each block serves the rows that it has and those that it would have
    transposed, for half of the work.

    Args:
        z: `(n, dim)` rows of length 1 at most, n known.
        temperature: positive.
        sides: the largest side of a block, and the smallest; where no side between them divides n,
            or the temperature is below `LEAST_TEMPERATURE`, blocks are as those of `over_columns`.

    Returns:
        `(n,)` tensor, with a gradient.
    """
    count = z.shape[0]
    side = next((s for s in range(sides[0], sides[1] - 1, -1) if count % s == 0), None)
    if side is None or temperature < LEAST_TEMPERATURE:
        own = tf.range(count)
        return over_columns(z, z, temperature, own=own)
    return _Symmetric(count // side, side, temperature)(z)


def over_columns(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    temperature: float,
    own: tf.Tensor | None = None,
    excluded: tf.Tensor | None = None,
    block: int = _BLOCK,
) -> tf.Tensor:
    """Returns log(sum_j exp(queries_i . candidates_j / temperature)).

    Args:
        queries: `(n, dim)` rows of length 1 at most, n known.
        candidates: `(m, dim)` rows of length 1 at most, m known.
        temperature: positive.
        own: `(n,)` integers, a column that is left out in each row; `None` for none.
        excluded: `(n, m)` bool, columns that are left out; `None` for none.
        block: similarities of a block.

    Returns:
        `(n,)` tensor, with gradients for both; minus infinity, without a gradient, in a row whose
        columns are all left out.
    """
    columns = candidates.shape[0]
    width = min(columns, max(1, block // queries.shape[0]))
    blocks = -(-columns // width)
    # What is left of the last block is zeros, which are left out.
    padding = blocks * width - columns
    candidates = tf.pad(candidates, ((0, padding), (0, 0)))
    if excluded is not None or padding:
        if excluded is None:
            excluded = tf.zeros((1, columns), tf.bool)
        excluded = tf.pad(excluded, ((0, 0), (0, padding)), constant_values=True)
    return _OverColumns(blocks, width, temperature, own, excluded)(queries, candidates)


class _Symmetric:
    """The sums of `among_others`, and their gradient: square blocks on and above the diagonal."""

    def __init__(self, blocks: int, side: int, temperature: float):
        pairs = [(i, j) for i in range(blocks) for j in range(i, blocks)]
        self._rows, self._columns = (tf.constant(places) for places in zip(*pairs, strict=True))
        self._pairs = len(pairs)
        self._blocks, self._side = blocks, side
        self._temperature = temperature

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        shape = (self._blocks, self._side)

        @tf.custom_gradient
        def both_ways(z):
            parts = tf.reshape(z, (*shape, z.shape[-1]))
            sums = self._sums(parts)  # (blocks, side), of exp(similarity - 1 / temperature)

            def backwards(upstream):
                weights = tf.reshape(upstream, shape) / sums
                gradient = self._gradient(parts, weights) / self._temperature
                return tf.reshape(gradient, z.shape)

            return tf.reshape(tf.math.log(sums), [-1]) + 1 / self._temperature, backwards

        return both_ways(z)

    def _exponentials(self, parts, i, j):
        similarity = tf.matmul(parts[i] / self._temperature, parts[j], transpose_b=True)
        values = tf.exp(similarity - 1 / self._temperature)  # (side, side)
        # No row is among its own candidates.
        diagonal = tf.where(i == j, 0.0, 1.0)
        itself = tf.linalg.diag_part(values) * tf.cast(diagonal, values.dtype)
        return tf.linalg.set_diag(values, itself), tf.cast(diagonal, values.dtype)

    def _sums(self, parts):
        def step(pair, sums):
            i, j = self._rows[pair], self._columns[pair]
            values, apart = self._exponentials(parts, i, j)
            added = tf.stack([tf.reduce_sum(values, 1), apart * tf.reduce_sum(values, 0)])
            return pair + 1, tf.tensor_scatter_nd_add(sums, [[i], [j]], added)

        return _in_turn(step, self._pairs, tf.zeros(parts.shape[:2], parts.dtype))

    def _gradient(self, parts, weights):
        def step(pair, gradient):
            i, j = self._rows[pair], self._columns[pair]
            values, apart = self._exponentials(parts, i, j)
            # A similarity counts in its row and, being symmetric, in its column.
            values *= weights[i][:, None] + weights[j]
            to_i = values @ parts[j]
            to_j = apart * tf.matmul(values, parts[i], transpose_a=True)
            return pair + 1, tf.tensor_scatter_nd_add(gradient, [[i], [j]], tf.stack([to_i, to_j]))

        return _in_turn(step, self._pairs, tf.zeros_like(parts))


class _OverColumns:
    """The sums of `over_columns`, and their gradients: blocks of some columns, and all rows."""

    def __init__(self, blocks: int, width: int, temperature: float, own, excluded):
        self._blocks, self._width = blocks, width
        self._temperature = temperature
        self._own, self._excluded = own, excluded

    def __call__(self, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def both_ways(q, c):
            parts = tf.reshape(c, (self._blocks, self._width, c.shape[-1]))
            shift = self._shift(q, parts)
            sums, means = self._sums(q, parts, shift)
            # (n, dim), of the candidates as the softmax weighs them
            means = tf.math.divide_no_nan(means, sums[:, None])

            def backwards(upstream):
                to_queries = upstream[:, None] * means / self._temperature
                # In a loop of its own: where candidates are a queue, nobody asks for it.
                weights = tf.math.divide_no_nan(upstream, sums)
                to_candidates = self._to_candidates(q, parts, shift, weights)
                return to_queries, tf.reshape(to_candidates, c.shape) / self._temperature

            return tf.math.log(sums) + shift[:, 0], backwards

        return both_ways(queries, candidates)

    def _similarities(self, queries, part, number):
        values = tf.matmul(queries / self._temperature, part, transpose_b=True)  # (n, width)
        first = number * self._width
        if self._own is not None:
            place = self._own[:, None] - tf.cast(first, self._own.dtype)
            itself = place == tf.range(self._width, dtype=self._own.dtype)
            values = tf.where(itself, values.dtype.min, values)
        if self._excluded is not None:
            rows = self._excluded.shape[0] or tf.shape(self._excluded)[0]
            excluded = tf.slice(self._excluded, [0, first], [rows, self._width])
            values = tf.where(excluded, values.dtype.min, values)
        return values

    def _shift(self, queries, parts):
        """Returns what is taken from the similarities of each row, `(n, 1)` or of all, `(1, 1)`."""
        if self._temperature >= LEAST_TEMPERATURE:
            return tf.constant(1 / self._temperature, queries.dtype, (1, 1))

        def step(number, largest):
            values = self._similarities(queries, parts[number], number)
            return number + 1, tf.maximum(largest, tf.reduce_max(values, 1, keepdims=True))

        # The least that a similarity can be: what is left out never counts.
        least = tf.constant(-1 / self._temperature, queries.dtype)
        return _in_turn(step, self._blocks, tf.fill((queries.shape[0], 1), least))

    def _sums(self, queries, parts, shift):
        def step(number, sums, means):
            values = tf.exp(self._similarities(queries, parts[number], number) - shift)
            return number + 1, sums + tf.reduce_sum(values, 1), means + values @ parts[number]

        start = (tf.zeros_like(queries[:, 0]), tf.zeros_like(queries))
        return _in_turn(step, self._blocks, *start)

    def _to_candidates(self, queries, parts, shift, weights):
        weighted = weights[:, None] * queries

        def step(number, gradient):
            values = tf.exp(self._similarities(queries, parts[number], number) - shift)
            part = tf.matmul(values, weighted, transpose_a=True)[None]
            return number + 1, tf.tensor_scatter_nd_update(gradient, [[number]], part)

        return _in_turn(step, self._blocks, tf.zeros_like(parts))


def _in_turn(step, count: int, *values):
    """Returns the values after `(number, *values) = step(number, *values)` for 0 to `count - 1`."""
    _, *values = tf.while_loop(
        lambda number, *_: number < count,
        step,
        (tf.constant(0), *values),
        parallel_iterations=1,  # one block in memory
        maximum_iterations=count,
    )
    return values[0] if len(values) == 1 else values
