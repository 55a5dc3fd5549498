"""The SVG files: well formed, with texts inside their boxes, and boxes beside each other."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savax.saved_model.cli.drawing import objects_svg, picture_page, picture_svg
from savax.saved_model.cli.drawing._placing import place_group
from savax.saved_model.cli.drawing._texts import shortened, text_width
from tests.saved_model.cli.drawing.graphs import boxes, drawn, graph, resnet
from tests.saved_model.cli.drawing.object_graphs import drawn_objects, shared_and_cyclic

if TYPE_CHECKING:
    from savax.saved_model.cli.drawing._placing import PlacedGroup

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</script><script>alert(1)</script>\x00\x1b&quot;'\"]]><!--\ud800"


def box(placed: PlacedGroup, key: str) -> tuple[float, float, float, float]:
    (found,) = [item for item in placed.items if item.item.key == key]
    return found.x, found.y, found.width, found.height


def overlapping(placed: PlacedGroup) -> list[tuple[str, str]]:
    found = []
    for a, b in itertools.combinations([item for item in placed.items if item.item.key], 2):
        beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        below = a.y + a.height <= b.y or b.y + b.height <= a.y
        if not beside and not below:
            found.append((a.path, b.path))
    for item in placed.items:
        if item.content is not None:
            found += overlapping(item.content)
    return found


@pytest.mark.parametrize("opened", [(), ("resnet50_1/conv2/conv2_block1",)], ids=["few", "block"])
def test_nothing_overlaps_and_all_is_inside(opened: tuple[str, ...]) -> None:
    picture = drawn(resnet(), *opened)
    placed = place_group(picture, picture.root)
    assert overlapping(placed) == []
    pending = [placed]
    while pending:
        group = pending.pop()
        for item in group.items:
            assert item.x >= -0.01
            assert item.x + item.width <= group.width + 0.01
            assert item.y + item.height <= group.height + 0.01
            if item.content is not None:
                pending.append(item.content)
        for edge in group.edges:
            assert all(-30 <= point.x <= group.width + 30 for point in edge.points)


EDGES = st.sets(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] < edge[1]),
    max_size=20,
)


@given(EDGES, st.lists(st.sampled_from(["", "a/", "b/", "a/c/"]), min_size=10, max_size=10))
def test_no_boxes_overlap_whatever_is_open(edges: set[tuple[int, int]], scopes: list[str]) -> None:
    names = [f"{scope}n{i}" for i, scope in enumerate(scopes)]
    rows = [("Foo", names[i], ["x", *(names[a] for a, b in edges if b == i)]) for i in range(10)]
    picture = drawn(graph([*rows, ("Foo", "y", names)], "y"))
    groups = [path for path, item in boxes(picture, picture.root).items() if item.content]
    for opened in ([], groups[:1], groups):
        placed = place_group(picture._replace(opened=frozenset(opened)), picture.root)
        assert overlapping(placed) == []


def test_edges_end_at_the_borders_of_what_they_connect() -> None:
    picture = drawn(graph([("Relu", "a", ["x"]), ("Add", "b", ["x", "a"])], "b"))
    placed = place_group(picture, picture.root)
    tops = {round(item.y, 3): item for item in placed.items if item.item.key}
    bottoms = {round(item.y + item.height, 3): item for item in placed.items if item.item.key}
    assert len(placed.edges) == 4
    for edge in placed.edges:
        source = bottoms[round(edge.points[0].y, 3)]
        target = tops[round(edge.points[-1].y, 3)]
        assert source.x <= edge.points[0].x <= source.x + source.width
        assert target.x <= edge.points[-1].x <= target.x + target.width
    ends = sorted(
        e.points[-1].x for e in placed.edges if tops[round(e.points[-1].y, 3)].path == "b"
    )
    assert ends[0] + 5 < ends[1]  # apart from each other


def test_the_file_is_xml_with_a_box_for_each_operation() -> None:
    picture = drawn(graph([("Relu", "a/r", ["x"]), ("Tanh", "a/t", ["a/r"])], "a/t"))
    root = ElementTree.fromstring(picture_svg(picture))
    assert root.tag == f"{SVG}svg"
    paths = [group.get("data-path") for group in root.iter(f"{SVG}g") if group.get("data-path")]
    assert sorted(paths) == ["a", "a/r", "a/t", "result", "x"]
    found = {g.get("data-path"): g for g in root.iter(f"{SVG}g")}
    assert [t.text for t in found["a/t"].iter(f"{SVG}text")] == ["Tanh", "t"]
    assert "node: a/t" in found["a/t"].find(f"{SVG}title").text
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert width > 50
    assert height > 150


def test_names_that_are_markup_are_text() -> None:
    meta_graph = graph([("Relu", "<a>/r", ["x"]), ("Tanh", "<a>/t", ["<a>/r"])], "<a>/t")
    signature = meta_graph.signature_def["serving_default"]
    name = HOSTILE.replace("\ud800", "")
    signature.inputs[name].CopyFrom(signature.inputs["x"])
    del signature.inputs["x"]
    picture = drawn(meta_graph)._replace(title=HOSTILE)
    root = ElementTree.fromstring(picture_svg(picture).encode("utf-8"))
    assert not list(root.iter(f"{SVG}script"))
    assert any(name[:9] in (text.text or "") for text in root.iter(f"{SVG}text"))
    page = picture_page(picture)
    assert page.count("<script") == 2  # its data and its program
    assert page.encode("utf-8")


def test_texts_are_not_wider_than_said_nor_longer_than_allowed() -> None:
    assert text_width("mmmm", 10) > text_width("llll", 10)
    assert text_width("\u6f22\u5b57", 10) > 20
    assert shortened("x" * 500, 36) == "x" * 23 + "…" + "x" * 12
    assert shortened("a\nb") == "a\\nb"


def test_objects_are_a_tree_with_references() -> None:
    picture = drawn_objects(shared_and_cyclic())
    root = ElementTree.fromstring(objects_svg(picture))
    found = {g.get("data-path"): g for g in root.iter(f"{SVG}g") if g.get("data-path")}
    assert set(found) == {
        *("root", "root/kernel", "root/layers", "root/layers/0", "root/layers/0/up"),
        *("root/layers/1",),
    }
    texts = {path: [t.text for t in group.iter(f"{SVG}text")] for path, group in found.items()}
    assert texts["root/kernel"] == ["variable", "float32[2, 3] 'kernel'", "24 B"]
    assert texts["root/layers/1"] == ["↗ root/kernel"]
    assert texts["root/layers/0/up"] == ["↺ root"]
    labels = [t.text for t in root.iter(f"{SVG}text") if t.get("class") == "label"]
    assert labels == ["kernel", "layers", "0", "up", "1"]
