"""Log-sum-exp over all similarities, without storing the similarity matrix.

The similarity matrix of a large batch is far larger than the embeddings: 16,384 views need 1 GiB in
float32, and the gradient stores twice as much again. Here it is computed in blocks that fit into the
processor's cache. Only one sum per row is kept; the gradient computes the blocks again.

Embeddings have length 1, so no similarity exceeds 1 / temperature. This bound is subtracted before
the exponential, instead of each row's maximum. It works as long as the smallest exponential does not
underflow, down to `MIN_TEMPERATURE`. Below that, a first pass finds each row's maximum.

Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", and Dao et al. 2022,
"FlashAttention", for blockwise sums and their gradients.
"""

import tensorflow as tf

# The smallest temperature at which the bound works: exp(-2 / 0.025) is 2e-35, a normal float32.
MIN_TEMPERATURE = 0.025
# Up to this many similarities (16 MiB in float32) the full matrix is as fast, and simpler.
MAX_UNBLOCKED = 2**22
_BLOCK = 2**20  # similarities per block: 4 MiB in float32
_SIDES = (1024, 256)  # largest and smallest side of a square block


def should_use_blocks(rows: int | None, columns: int | None) -> bool:
    """Returns whether a similarity matrix of this size should be computed in blocks.

    Sizes that are unknown when the graph is built are `None`; the answer is then `False`.
    """
    return rows is not None and columns is not None and rows * columns > MAX_UNBLOCKED


def log_sum_of_others(
    z: tf.Tensor, temperature: float, sides: tuple[int, int] = _SIDES
) -> tf.Tensor:
    """Returns log(sum_j exp(z_i . z_j / temperature)) over all rows j other than i.

    The matrix is symmetric, so each block also serves as its transpose, which halves the work.

    Args:
        z: `(n, dim)`, rows of length at most 1; n must be static.
        temperature: positive.
        sides: largest and smallest side of a square block. If no side in this range divides n, or
            the temperature is below `MIN_TEMPERATURE`, `log_sum_over_columns` is used instead.

    Returns:
        `(n,)` tensor, differentiable.
    """
    count = z.shape[0]
    side = next((s for s in range(sides[0], sides[1] - 1, -1) if count % s == 0), None)
    if side is None or temperature < MIN_TEMPERATURE:
        own = tf.range(count)
        return log_sum_over_columns(z, z, temperature, own=own)
    return _Symmetric(count // side, side, temperature)(z)


def log_sum_over_columns(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    temperature: float,
    own: tf.Tensor | None = None,
    excluded: tf.Tensor | None = None,
    block: int = _BLOCK,
) -> tf.Tensor:
    """Returns log(sum_j exp(queries_i . candidates_j / temperature)).

    Args:
        queries: `(n, dim)`, rows of length at most 1; n must be static.
        candidates: `(m, dim)`, rows of length at most 1; m must be static.
        temperature: positive.
        own: `(n,)` integers, one column to leave out in each row; `None` leaves out none.
        excluded: `(n, m)` bool, True for columns to leave out; `None` leaves out none.
        block: number of similarities per block.

    Returns:
        `(n,)` tensor, differentiable in queries and candidates. A row whose columns are all left out
        is minus infinity and has no gradient.
    """
    columns = candidates.shape[0]
    width = min(columns, max(1, block // queries.shape[0]))
    blocks = -(-columns // width)
    # The last block is padded with zeros, which are excluded.
    padding = blocks * width - columns
    candidates = tf.pad(candidates, ((0, padding), (0, 0)))
    if excluded is not None or padding:
        if excluded is None:
            excluded = tf.zeros((1, columns), tf.bool)
        excluded = tf.pad(excluded, ((0, 0), (0, padding)), constant_values=True)
    return _OverColumns(blocks, width, temperature, own, excluded)(queries, candidates)


class _Symmetric:
    """`log_sum_of_others` and its gradient, from square blocks on and above the diagonal."""

    def __init__(self, blocks: int, side: int, temperature: float):
        pairs = [(i, j) for i in range(blocks) for j in range(i, blocks)]
        self._rows, self._columns = (tf.constant(places) for places in zip(*pairs, strict=True))
        self._pairs = len(pairs)
        self._blocks, self._side = blocks, side
        self._temperature = temperature

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        shape = (self._blocks, self._side)

        @tf.custom_gradient
        def log_sums(z):
            parts = tf.reshape(z, (*shape, z.shape[-1]))
            sums = self._sums(parts)  # (blocks, side), of exp(similarity - 1 / temperature)

            def grad(upstream):
                weights = tf.reshape(upstream, shape) / sums
                gradient = self._gradient(parts, weights) / self._temperature
                return tf.reshape(gradient, z.shape)

            return tf.reshape(tf.math.log(sums), [-1]) + 1 / self._temperature, grad

        return log_sums(z)

    def _exponentials(self, parts, i, j):
        similarity = tf.matmul(parts[i] / self._temperature, parts[j], transpose_b=True)
        values = tf.exp(similarity - 1 / self._temperature)  # (side, side)
        # A row is not its own candidate. 0 for blocks on the diagonal, 1 for the others.
        off_diagonal = tf.cast(tf.where(i == j, 0.0, 1.0), values.dtype)
        diagonal = tf.linalg.diag_part(values) * off_diagonal
        return tf.linalg.set_diag(values, diagonal), off_diagonal

    def _sums(self, parts):
        def step(pair, sums):
            i, j = self._rows[pair], self._columns[pair]
            values, off_diagonal = self._exponentials(parts, i, j)
            added = tf.stack([tf.reduce_sum(values, 1), off_diagonal * tf.reduce_sum(values, 0)])
            return pair + 1, tf.tensor_scatter_nd_add(sums, [[i], [j]], added)

        return _loop(step, self._pairs, tf.zeros(parts.shape[:2], parts.dtype))

    def _gradient(self, parts, weights):
        def step(pair, gradient):
            i, j = self._rows[pair], self._columns[pair]
            values, off_diagonal = self._exponentials(parts, i, j)
            # By symmetry, a similarity counts in its row and in its column.
            values *= weights[i][:, None] + weights[j]
            to_i = values @ parts[j]
            to_j = off_diagonal * tf.matmul(values, parts[i], transpose_a=True)
            return pair + 1, tf.tensor_scatter_nd_add(gradient, [[i], [j]], tf.stack([to_i, to_j]))

        return _loop(step, self._pairs, tf.zeros_like(parts))


class _OverColumns:
    """`log_sum_over_columns` and its gradients, from blocks of some columns and all rows."""

    def __init__(self, blocks: int, width: int, temperature: float, own, excluded):
        self._blocks, self._width = blocks, width
        self._temperature = temperature
        self._own, self._excluded = own, excluded

    def __call__(self, queries: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def log_sums(q, c):
            parts = tf.reshape(c, (self._blocks, self._width, c.shape[-1]))
            shift = self._shift(q, parts)
            sums, means = self._sums(q, parts, shift)
            # (n, dim), the softmax-weighted means of the candidates
            means = tf.math.divide_no_nan(means, sums[:, None])

            def grad(upstream):
                to_queries = upstream[:, None] * means / self._temperature
                # A separate loop, which TensorFlow prunes where candidates need no gradient (a queue).
                weights = tf.math.divide_no_nan(upstream, sums)
                to_candidates = self._to_candidates(q, parts, shift, weights)
                return to_queries, tf.reshape(to_candidates, c.shape) / self._temperature

            return tf.math.log(sums) + shift[:, 0], grad

        return log_sums(queries, candidates)

    def _similarities(self, queries, part, number):
        values = tf.matmul(queries / self._temperature, part, transpose_b=True)  # (n, width)
        first = number * self._width
        if self._own is not None:
            place = self._own[:, None] - tf.cast(first, self._own.dtype)
            own_column = place == tf.range(self._width, dtype=self._own.dtype)
            values = tf.where(own_column, values.dtype.min, values)
        if self._excluded is not None:
            rows = self._excluded.shape[0] or tf.shape(self._excluded)[0]
            excluded = tf.slice(self._excluded, [0, first], [rows, self._width])
            values = tf.where(excluded, values.dtype.min, values)
        return values

    def _shift(self, queries, parts):
        """Returns what to subtract from the similarities: `(n, 1)` per row, or `(1, 1)` for all."""
        if self._temperature >= MIN_TEMPERATURE:
            return tf.constant(1 / self._temperature, queries.dtype, (1, 1))

        def step(number, largest):
            values = self._similarities(queries, parts[number], number)
            return number + 1, tf.maximum(largest, tf.reduce_max(values, 1, keepdims=True))

        # The smallest possible similarity: columns that are left out lie below it.
        least = tf.constant(-1 / self._temperature, queries.dtype)
        return _loop(step, self._blocks, tf.fill((queries.shape[0], 1), least))

    def _sums(self, queries, parts, shift):
        def step(number, sums, means):
            values = tf.exp(self._similarities(queries, parts[number], number) - shift)
            return number + 1, sums + tf.reduce_sum(values, 1), means + values @ parts[number]

        start = (tf.zeros_like(queries[:, 0]), tf.zeros_like(queries))
        return _loop(step, self._blocks, *start)

    def _to_candidates(self, queries, parts, shift, weights):
        weighted = weights[:, None] * queries

        def step(number, gradient):
            values = tf.exp(self._similarities(queries, parts[number], number) - shift)
            part = tf.matmul(values, weighted, transpose_a=True)[None]
            return number + 1, tf.tensor_scatter_nd_update(gradient, [[number]], part)

        return _loop(step, self._blocks, tf.zeros_like(parts))


def _loop(step, count: int, *values):
    """Runs `(number, *values) = step(number, *values)` `count` times, and returns the values."""
    _, *values = tf.while_loop(
        lambda number, *_: number < count,
        step,
        (tf.constant(0), *values),
        parallel_iterations=1,  # one block in memory
        maximum_iterations=count,
    )
    return values[0] if len(values) == 1 else values
