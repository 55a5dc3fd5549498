"""``check_lowering``: a JAX function and the TensorFlow graph that it is lowered to agree.

Used by the tests of lowering rules. A typical test is one line::

    check_lowering(lambda x: jnp.cumsum(x, 1), np.ones((2, 3), np.float32), specs=[(None, 3)])

The function is traced with ``jax.make_jaxpr``, lowered, checked by TensorFlow's own shape
inference, and run in a TensorFlow session. Compared are: number, dtype and shape of the results
(dtypes exactly), the static shapes that TensorFlow infers (known sizes must stay known), and the
values. With ``specs``, unknown dims are JAX's symbolic dims, and the one FunctionDef is run on the
given arguments and again on arguments whose unknown dims are larger by one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax import export

from savax.function.lowering._function_library import FunctionLibrary
from savax.function.lowering._lowering import lower_jaxpr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from savax.protos import FunctionDef

_NUMBERS = itertools.count(1000, 1000)


class Lowered(NamedTuple):
    """A lowered function.

    Attributes:
      function: its FunctionDef.
      library: all functions, itself included.
      jaxpr: what it was lowered from.
    """

    function: FunctionDef
    library: FunctionLibrary
    jaxpr: Any

    def ops(self) -> list[str]:
        """Returns the op types of its nodes, without the Identity of each output."""
        outputs = {value.split(":")[0] for value in self.function.ret.values()}
        return [node.op for node in self.function.node_def if node.name not in outputs]

    def all_ops(self) -> set[str]:
        """Returns the op types of all functions of the library."""
        return {node.op for f in self.library.functions.values() for node in f.node_def}


def lower(
    fn: Any, *args: Any, specs: Any = None, name: str = "f_0", first_number: int = 0
) -> Lowered:
    """Traces and lowers a function.

    Args:
      fn: function of arrays, which may be nested in containers.
      *args: example arguments.
      specs: per argument None (as the argument is), or a shape for an array argument: a tuple in
        which None is an unknown size of its own, and a string names one or is an expression of
        them (``"b"``, ``"2*b"``).
      name: name of the FunctionDef.
      first_number: the lowest number in the names of functions that it calls.
    """
    scope = export.SymbolicScope()
    shapes = specs or (None,) * len(args)
    symbolic = [
        _symbolic(arg, shape, scope, index)
        for index, (arg, shape) in enumerate(zip(args, shapes, strict=True))
    ]
    jaxpr = jax.make_jaxpr(fn)(*symbolic)
    library = FunctionLibrary(first_number)
    function = lower_jaxpr(jaxpr, name, library)
    return Lowered(function, library, jaxpr)


def check_lowering(
    fn: Any,
    *args: Any,
    specs: Any = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    run_jit: bool = False,
) -> Lowered:
    """Checks that TensorFlow computes what JAX computes.

    Args:
      fn: function of arrays, which may be nested in containers.
      *args: arguments, numpy or JAX arrays.
      specs: unknown dims, see ``lower``.
      rtol: relative tolerance of floating and complex results; others must be equal.
      atol: absolute tolerance of them.
      run_jit: compare with ``jax.jit(fn)`` instead of ``fn``.

    Returns:
      What was lowered, for further checks of the ops.
    """
    lowered = lower(fn, *args, specs=specs)
    reference = jax.jit(fn) if run_jit else fn
    calls = [args]
    if specs is not None and any(None in s or _has_name(s) for s in specs if s is not None):
        calls.append(tuple(_grown(a, s) for a, s in zip(args, specs, strict=True)))
    for call in calls:
        expected = [np.asarray(x) for x in jax.tree_util.tree_leaves(reference(*call))]
        found = run_in_tensorflow(lowered, jax.tree_util.tree_leaves(call))
        assert len(found) == len(expected)
        for index, (have, want) in enumerate(zip(found, expected, strict=True)):
            assert_equal(have, want, rtol, atol, f"result {index}")
    return lowered


def check_gradients(
    fn: Any, *args: Any, specs: Any = None, rtol: float = 1e-4, atol: float = 1e-5
) -> Lowered:
    """Checks that TensorFlow differentiates the lowered graph as JAX differentiates the function.

    Compared are the gradients of the sum of all floating results with respect to all floating
    arguments.
    """

    def total(*values: Any) -> Any:
        leaves = jax.tree_util.tree_leaves(fn(*values))
        return sum(leaf.sum() for leaf in leaves if leaf.dtype.kind == "f")

    import tensorflow as tf

    # TensorFlow's gradients put functions into a registry of the process.
    lowered = lower(fn, *args, specs=specs, first_number=next(_NUMBERS))
    wanted = [i for i, arg in enumerate(args) if np.asarray(arg).dtype.kind == "f"]
    expected = jax.grad(total, argnums=wanted)(*args)
    graph = import_graph(lowered)
    with graph.as_default():
        outputs = [tensor for tensor in graph.outputs if tensor.dtype.is_floating]
        found = tf.gradients(outputs, [graph.inputs[i] for i in wanted])
        for have, want in zip(_run(graph, found, args), expected, strict=True):
            assert_equal(have, np.asarray(want), rtol, atol, "gradient")
    return lowered


def run_in_tensorflow(lowered: Lowered, leaves: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Runs a lowered function in a TensorFlow session, and checks the shapes it infers."""
    graph = import_graph(lowered)
    check_inferred_shapes(graph, lowered.jaxpr.out_avals)
    return _run(graph, graph.outputs, leaves)


def check_inferred_shapes(graph: Any, avals: Sequence[Any]) -> None:
    """Checks that TensorFlow infers ranks and all sizes that are known."""
    for tensor, aval in zip(graph.outputs, avals, strict=True):
        known = [dim if isinstance(dim, int) else None for dim in aval.shape]
        inferred = tensor.shape.as_list() if tensor.shape.rank is not None else None
        assert inferred is not None, f"{tensor.name}: TensorFlow infers no rank, expected {known}"
        assert len(inferred) == len(known), f"{tensor.name}: {inferred} inferred, expected {known}"
        for have, want in zip(inferred, known, strict=True):
            assert want is None or have == want, f"{tensor.name}: {inferred}, expected {known}"


def import_graph(lowered: Lowered) -> Any:
    """Returns TensorFlow's FuncGraph of a lowered function, with all functions that it calls."""
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2
    from tensorflow.python.framework import function_def_to_graph

    graph_def = graph_pb2.GraphDef()
    for function in lowered.library.functions.values():
        graph_def.library.function.add().ParseFromString(function.SerializeToString())
    graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
    name = lowered.function.signature.name
    (main,) = (f for f in graph_def.library.function if f.signature.name == name)
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        return function_def_to_graph.function_def_to_graph(main, include_library_functions=True)


def op_by_op() -> Any:
    """Returns the configuration of a session that runs kernels one by one, without optimizers."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    return config_pb2.ConfigProto(
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        graph_options=config_pb2.GraphOptions(
            optimizer_options=config_pb2.OptimizerOptions(
                opt_level=config_pb2.OptimizerOptions.L0,
                global_jit_level=config_pb2.OptimizerOptions.OFF,
            ),
            rewrite_options=rewriter_config_pb2.RewriterConfig(disable_meta_optimizer=True),
        ),
    )


def _run(graph: Any, tensors: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    import tensorflow as tf

    feeds = {
        tensor.name: np.asarray(leaf, dtype=tensor.dtype.as_numpy_dtype)
        for tensor, leaf in zip(graph.inputs, leaves, strict=True)
    }
    with tf.compat.v1.Session(graph=graph) as session:
        return list(session.run([tensor.name for tensor in tensors], feeds))


def assert_equal(have: Any, want: Any, rtol: float, atol: float, what: str) -> None:
    """Checks dtype, shape and values of a result; only floating ones have a tolerance."""
    have = np.asarray(have)
    assert have.dtype == want.dtype, f"{what}: dtype {have.dtype}, expected {want.dtype}"
    assert have.shape == want.shape, f"{what}: shape {have.shape}, expected {want.shape}"
    if want.dtype.kind in "fc" or want.dtype.kind == "V":
        kind = np.complex128 if want.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(
            have.astype(kind), want.astype(kind), rtol=rtol, atol=atol, err_msg=what
        )
    else:
        np.testing.assert_array_equal(have, want, err_msg=what)


def _symbolic(arg: Any, shape: Any, scope: export.SymbolicScope, index: int) -> Any:
    if shape is None:
        return arg
    text = ",".join(
        f"d{index}_{axis}" if dim is None else str(dim) for axis, dim in enumerate(shape)
    )
    dims = export.symbolic_shape(text, scope=scope) if text else ()
    return jax.ShapeDtypeStruct(dims, np.asarray(arg).dtype)


def _has_name(shape: Any) -> bool:
    return any(isinstance(dim, str) for dim in shape)


def _grown(arg: Any, shape: Any) -> Any:
    """Returns an argument with each unknown size one larger, ``"2*b"`` two larger."""
    if shape is None:
        return arg
    array = np.asarray(arg)
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            continue
        extra = int(dim.split("*")[0]) if isinstance(dim, str) and "*" in dim else 1
        array = np.concatenate([array, array.take(range(extra), axis)], axis)
    return array
