"""Tensor lists and TensorArrays of TensorFlow functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from evaluation_check import check_function, load_function  # noqa: E402

pytestmark = pytest.mark.tf

X = np.arange(12, dtype=np.float32).reshape(4, 3)
raw = tf.raw_ops


def _check(function, *args):
    specs = [tf.TensorSpec(np.shape(a), np.asarray(a).dtype) for a in args]
    concrete = tf.function(function).get_concrete_function(*specs)
    loaded = check_function(concrete, *args)
    under_jit = jax.jit(lambda *xs: loaded.body.run(list(xs)))(*args)
    for found, expected in zip(
        under_jit, tf.nest.flatten(concrete(*map(tf.constant, args))), strict=True
    ):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    return loaded


def _reserve(n, shape=(3,)):
    return raw.TensorListReserve(
        element_shape=tf.constant(shape, tf.int32), num_elements=n, element_dtype=tf.float32
    )


def _set(handle, index, item):
    return raw.TensorListSetItem(input_handle=handle, index=index, item=item)


def _get(handle, index, shape=(3,)):
    return raw.TensorListGetItem(
        input_handle=handle, index=index, element_shape=shape, element_dtype=tf.float32
    )


def _stack(handle, shape=(3,)):
    return raw.TensorListStack(
        input_handle=handle, element_shape=tf.constant(shape, tf.int32), element_dtype=tf.float32
    )


def test_elements_at_known_and_traced_positions():
    def f(x, i):
        handle = _set(_set(_reserve(4), 2, x[0]), i, x[1])
        return _stack(handle), _get(handle, i), _get(handle, 0)

    _check(f, X, np.int32(1))


def test_list_of_unknown_element_shape():
    def f(x, i):
        handle = _set(_reserve(3, -1), i, x)
        return _get(handle, i, -1), _stack(handle, -1)

    _check(f, X, np.int32(1))


def test_list_from_tensor_and_its_shape():
    def f(x):
        handle = raw.TensorListFromTensor(tensor=x, element_shape=tf.constant([-1]))
        return (
            raw.TensorListLength(input_handle=handle),
            raw.TensorListElementShape(input_handle=handle, shape_type=tf.int64),
            raw.TensorListGather(
                input_handle=handle, indices=[3, 0], element_shape=[3], element_dtype=tf.float32
            ),
        )

    _check(f, X)


def test_push_and_pop():
    def f(x):
        handle = raw.EmptyTensorList(
            element_shape=tf.constant(-1), max_num_elements=-1, element_dtype=tf.float32
        )
        for i in range(3):
            handle = raw.TensorListPushBack(input_handle=handle, tensor=x[i])
        handle, last = raw.TensorListPopBack(
            input_handle=handle, element_shape=-1, element_dtype=tf.float32
        )
        return last, _stack(handle, -1), raw.TensorListLength(input_handle=handle)

    _check(f, X)


def test_scatter_split_concat_resize():
    def f(x):
        scattered = raw.TensorListScatterV2(
            tensor=x, indices=[4, 0, 1, 2], element_shape=[3], num_elements=-1
        )
        split = raw.TensorListSplit(
            tensor=x, element_shape=[-1, 3], lengths=tf.constant([2, 2], tf.int64)
        )
        joined = raw.TensorListConcatV2(
            input_handle=split,
            element_shape=tf.constant([-1, 3]),
            leading_dims=tf.constant([], tf.int64),
            element_dtype=tf.float32,
        )
        both = raw.TensorListConcatLists(
            input_a=scattered, input_b=scattered, element_dtype=tf.float32
        )
        resized = raw.TensorListResize(input_handle=scattered, size=7)
        return _stack(scattered), *joined, _stack(both), _stack(resized)

    _check(f, X)


def test_array_written_in_a_loop_and_its_gradient():
    def f(x):
        array = tf.TensorArray(tf.float32, size=4)
        state = tf.zeros([3])
        for i in tf.range(4):
            state = tf.tanh(state + x[i])
            array = array.write(i, state)
        return array.stack()

    loaded = _check(f, X / 10)
    tensor = tf.constant(X / 10)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_sum(tf.function(f)(tensor) ** 2)
    found = jax.grad(lambda x: jnp.sum(loaded.body.run([x])[0] ** 2))(X / 10)
    np.testing.assert_allclose(found, tape.gradient(loss, tensor), rtol=1e-4)


def test_array_that_grows_in_a_loop():
    def f(x):
        array = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        for i in tf.range(3):
            array = array.write(i, x[i])
        return array.stack()

    _check(f, X)


def test_two_arrays_in_nested_loops():
    def f(x):
        rows = tf.TensorArray(tf.float32, size=4)
        for i in tf.range(4):
            row = tf.TensorArray(tf.float32, size=3)
            for j in tf.range(3):
                row = row.write(j, x[i, j] * 2)
            rows = rows.write(i, row.stack())
        return rows.stack()

    _check(f, X)


def test_array_in_branches():
    def f(x):
        array = tf.TensorArray(tf.float32, size=2, element_shape=[3])
        array = array.write(0, x[0]) if x[0, 0] > 5 else array.write(1, x[1])
        return array.stack()

    _check(f, X)
    _check(f, X + 9)


def test_gradient_graph_of_a_loop():
    """TensorFlow's own gradient of a While pushes intermediates to lists, and pops them."""

    @tf.function
    def f(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in tf.range(3):
                y = tf.sin(y) * x
            loss = tf.reduce_sum(y)
        return tape.gradient(loss, x)

    check_function(f.get_concrete_function(tf.TensorSpec([4, 3])), X / 10)


def test_map_fn():
    def f(x):
        return tf.map_fn(lambda row: tf.reduce_sum(row) * row, x)

    _check(f, X)


def test_size_from_an_argument_needs_a_value():
    def f(n):
        array = tf.TensorArray(tf.int32, size=n)
        for i in tf.range(n):
            array = array.write(i, i * i)
        return array.stack()

    concrete = tf.function(f).get_concrete_function(tf.TensorSpec([], tf.int32))
    check_function(concrete, np.int32(5))
    loaded = load_function(concrete)
    with pytest.raises(TypeError, match=r"must be known"):
        jax.jit(lambda n: loaded.body.run([n]))(5)


WORDS = np.array([b"a b", b"", b"c"], object)


@pytest.mark.parametrize("case", ["in", "out", "both", "ragged", "pieces"])
def test_functions_of_strings_and_ragged_rows_are_mapped(case):
    functions = {
        "in": lambda x: tf.map_fn(tf.strings.length, x, fn_output_signature=tf.int32),
        "out": lambda x: tf.map_fn(tf.strings.as_string, x, fn_output_signature=tf.string),
        "both": lambda x: tf.map_fn(tf.strings.upper, x),
        "ragged": lambda x: (
            tf.map_fn(tf.cumsum, tf.RaggedTensor.from_row_splits(x, [0, 2, 2, 4])).flat_values
        ),
        "pieces": lambda x: tf.map_fn(
            tf.strings.split, x, fn_output_signature=tf.RaggedTensorSpec([None], tf.string)
        ).to_tensor(),
    }
    given = {"out": np.arange(3), "ragged": np.arange(4, dtype=np.float32)}.get(case, WORDS)
    check_function(tf.function(functions[case]), given)


def test_lists_of_strings():
    def f(x):
        raw = tf.raw_ops
        kind, none = {"element_dtype": tf.string}, tf.zeros([0], tf.int32)
        made = raw.EmptyTensorList(element_shape=none, max_num_elements=-1, **kind)
        for i in range(3):
            made = raw.TensorListPushBack(input_handle=made, tensor=x[i])
        made = raw.TensorListResize(input_handle=made, size=4)
        made, last = raw.TensorListPopBack(input_handle=made, element_shape=none, **kind)
        some = raw.TensorListGather(
            input_handle=made, indices=[2, 0, 0], element_shape=none, **kind
        )
        return last, some, raw.TensorListStack(input_handle=made, element_shape=none, **kind)

    check_function(tf.function(f), WORDS)
