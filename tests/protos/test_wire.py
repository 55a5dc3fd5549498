"""Parsing, deterministic and canonical serialization, and the text format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.errors import CorruptSavedModelError
from savax.protos import (
    AssetFileDef,
    AttrValue,
    CollectionDef,
    FunctionDef,
    GraphDebugInfo,
    MetaGraphDef,
    NodeDef,
    SavedModel,
    canonical_bytes,
    parse,
    parse_text,
    serialize,
    to_text,
)


def test_parse_names_the_source_of_damaged_bytes():
    with pytest.raises(CorruptSavedModelError, match=r"models/m1.*tensorflow\.SavedModel"):
        parse(SavedModel, b"\xff\xff", "models/m1")


def test_parse_refuses_deep_nesting():
    data = b""
    for _ in range(2000):  # AttrValue.func.attr["k"] = ...
        entry = b"\x0a\x01k\x12" + _length(data) + data
        func = b"\x12" + _length(entry) + entry
        data = b"\x52" + _length(func) + func
    with pytest.raises(CorruptSavedModelError):
        parse(AttrValue, data, "attr")


@given(st.binary(max_size=200))
def test_parse_of_any_bytes_gives_a_message_or_the_error(data):
    try:
        message = parse(SavedModel, data, "bytes")
    except CorruptSavedModelError:
        return
    canonical_bytes(message)


def test_canonical_bytes_sort_string_keys_bytewise():
    node = NodeDef()
    for name in ("Tin", "T", "dtype", "N", "Tidx"):
        node.attr[name].i = 1
    data = canonical_bytes(node)
    positions = [
        data.index(b"\x0a" + bytes([len(n)]) + n.encode())
        for n in ("N", "T", "Tidx", "Tin", "dtype")
    ]
    assert positions == sorted(positions)


def test_canonical_bytes_sort_integer_keys_numerically():
    function = FunctionDef()
    for index in (300, 2, 1):
        function.arg_attr[index].attr["x"].i = index
    data = canonical_bytes(function)
    assert data == b"".join(
        b":" + _length(entry) + entry
        for entry in (
            b"\x08" + key + b"\x12\x09\x0a\x07\x0a\x01x\x12\x02\x18" + value
            if len(value) == 1
            else b"\x08" + key + b"\x12\x0a\x0a\x08\x0a\x01x\x12\x03\x18" + value
            for key, value in ((b"\x01", b"\x01"), (b"\x02", b"\x02"), (b"\xac\x02", b"\xac\x02"))
        )
    )


def test_canonical_bytes_sort_fixed_keys_and_keep_empty_values():
    info = GraphDebugInfo()
    for key in (1 << 40, 256, 1):
        info.traces_by_id[key].SetInParent()
    keys = [
        int.from_bytes(part[1:9], "little") for part in canonical_bytes(info).split(b"2\x0b")[1:]
    ]
    assert keys == [1, 256, 1 << 40]


_ATTRS = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(st.text("abT", max_size=3), inner, max_size=4),
    max_leaves=12,
)


def _fill(attr, tree):
    if isinstance(tree, int):
        attr.i = tree
        return
    attr.func.name = "f"
    for name, inner in tree.items():
        _fill(attr.func.attr[name], inner)


def _canonical_by_hand(tree):
    """The canonical bytes of ``_fill``'s message, written independently."""
    if isinstance(tree, int):
        return b"\x18" + bytes([tree])
    func = b"\x0a\x01f"
    for name in sorted(tree, key=str.encode):
        value = _canonical_by_hand(tree[name])
        entry = b"\x0a" + _length(name.encode()) + name.encode() + b"\x12" + _length(value) + value
        func += b"\x12" + _length(entry) + entry
    return b"\x52" + _length(func) + func


@given(_ATTRS)
def test_canonical_bytes_of_nested_maps(tree):
    attr = AttrValue()
    _fill(attr, tree)
    data = canonical_bytes(attr)
    assert data == _canonical_by_hand(tree)
    assert parse(AttrValue, data, "attr") == attr


def test_canonical_bytes_keep_unknown_fields():
    data = b"\x0a\x01n" + b"\xfa\x3e\x03abc"  # name, and bytes in field 1007
    assert canonical_bytes(parse(NodeDef, data, "node")) == data


def test_serialize_is_deterministic():
    first, second = NodeDef(), NodeDef()
    for name in ("a", "b", "c"):
        first.attr[name].i = 1
    for name in ("c", "a", "b"):
        second.attr[name].i = 1
    assert serialize(first) == serialize(second)


def test_text_expands_and_reads_any_messages():
    graph = MetaGraphDef()
    graph.collection_def["saved_model_assets"].any_list.value.add().Pack(
        AssetFileDef(filename="vocab.txt")
    )
    text = to_text(graph)
    assert "[type.googleapis.com/tensorflow.AssetFileDef]" in text
    assert parse_text(MetaGraphDef, text, "text") == graph


@pytest.mark.parametrize("text", ["no_such_field: 1", "node_list {", b"\xff\xfe", "\0"])
def test_parse_text_refuses(text):
    with pytest.raises(CorruptSavedModelError, match=r"m\.pbtxt"):
        parse_text(CollectionDef, text, "m.pbtxt")


def _length(data):
    """The varint of a length."""
    length, result = len(data), b""
    while length >= 0x80:
        result += bytes([length & 0x7F | 0x80])
        length >>= 7
    return result + bytes([length])
