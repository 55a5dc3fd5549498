"""The pages in a real browser: groups open, nothing overlaps, nothing goes wrong."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

import pytest

from savax.saved_model.cli.drawing import objects_page, objects_svg, picture_page, picture_svg
from tests.browser import open_page
from tests.saved_model.cli.drawing.graphs import add_function, drawn, graph, resnet
from tests.saved_model.cli.drawing.object_graphs import (
    drawn_objects,
    object_graph,
    shared_and_cyclic,
)

if TYPE_CHECKING:
    from pathlib import Path

# Runs in the page after its own script, and writes what it finds into the page.
_MEASURE = """
<pre id="report"></pre>
<script>
const found = { boxes: [], outside: [], overlapping: [], steps: [] };
function measure() {
  const boxes = [...document.querySelectorAll("#canvas g.item[data-path]:not(.port)")];
  found.boxes = boxes.map((box) => {
    const own = box.querySelector(":scope > .box, :scope > .frame");
    return [box.dataset.path, ...["x", "y", "width", "height"].map((n) => own.getAttribute(n))];
  });
  const closed = boxes.filter((box) => !box.querySelector(":scope > .frame"));
  const places = closed.map((box) => box.querySelector(":scope > .box").getBoundingClientRect());
  closed.forEach((box, i) => {
    for (const text of box.querySelectorAll(":scope > text")) {
      const a = text.getBoundingClientRect(), b = places[i];
      if (a.left < b.left || a.right > b.right || a.top < b.top || a.bottom > b.bottom)
        found.outside.push(box.dataset.path + ": " + text.textContent);
    }
    for (let j = 0; j < i; j++) {
      const a = places[i], b = places[j];
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        found.overlapping.push(box.dataset.path + " and " + closed[j].dataset.path);
    }
  });
  for (const text of document.querySelectorAll("#canvas .header-box text")) {
    const a = text.getBoundingClientRect(), b = text.previousSibling.getBoundingClientRect();
    if (a.left < b.left || a.right > b.right) found.outside.push("header: " + text.textContent);
  }
}
function press(path, key) {
  const box = document.querySelector('g.item[data-path="' + path + '"]');
  const target = box.hasAttribute("tabindex") ? box : box.querySelector("[tabindex]");
  if (key) target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  else target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  measure();
  found.steps.push(found.boxes.map((box) => box[0]));
}
function seek(text) {
  const field = document.getElementById("search");
  field.value = text;
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  measure();
  found.steps.push([document.querySelector(".found")?.dataset.path,
    document.getElementById("count").textContent]);
}
function hover(path) {
  const box = document.querySelector('g.item[data-path="' + path + '"]');
  box.dispatchEvent(new PointerEvent("pointerenter", { clientX: 10, clientY: 10 }));
  found.steps.push(document.getElementById("tip").innerText);
}
measure();
STEPS
document.getElementById("report").textContent = JSON.stringify(found);
</script>
"""


def measured(page: str, folder: Path, steps: str = "", fragment: str = "") -> dict[str, Any]:
    """Opens a page, does something in it, and returns what is seen."""
    # The page forbids all scripts but its own.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    file = folder / "page.html"
    file.write_text(page.replace("</body>", _MEASURE.replace("STEPS", steps) + "</body>"), "utf-8")
    opened = open_page(file, fragment)
    assert opened.console == []
    report = re.search(r'<pre id="report">(.*?)</pre>', opened.html, re.DOTALL)
    assert report is not None
    found: dict[str, Any] = json.loads(html.unescape(report[1]))
    assert found["outside"] == []
    assert found["overlapping"] == []
    return found


def boxes_of(svg: str) -> list[list[str]]:
    """Returns path and place of every box in a file that stands still."""
    found = []
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        if group.get("data-path"):
            own = next(r for r in group if {"box", "frame"} & set(r.get("class", "").split()))
            places = [own.get(name) for name in ("x", "y", "width", "height")]
            found.append([group.get("data-path"), *places])
    return found


def assert_same_places(ours: list[list[str]], theirs: list[list[str]]) -> None:
    assert [box[0] for box in ours] == [box[0] for box in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert [float(x) for x in a[1:]] == pytest.approx([float(x) for x in b[1:]], abs=0.11), a[0]


def loop() -> Any:
    meta_graph = graph(
        [("While", "scope/while", ["x"]), ("Relu", "scope/r", ["scope/while", "x"])], "scope/r"
    )
    for name, op in (("body", "Tanh"), ("cond", "Less")):
        add_function(meta_graph, f"the_{name}", [(op, "n", ["x"])], "n:0")
        meta_graph.graph_def.node[1].attr[name].func.name = f"the_{name}"
    return meta_graph


def test_a_resnet_is_legible_and_like_the_file_that_stands_still(tmp_path: Path) -> None:
    picture = drawn(resnet())
    found = measured(picture_page(picture), tmp_path)
    assert len(found["boxes"]) > 20
    assert_same_places(found["boxes"], boxes_of(picture_svg(picture)))


def test_an_address_opens_a_path(tmp_path: Path) -> None:
    page = picture_page(drawn(resnet()))
    path = "resnet50_1/conv3/conv3_block1"
    found = measured(page, tmp_path, fragment=f"{path}/conv3_block1_0_bn_1/batchnorm")
    paths = [box[0] for box in found["boxes"]]
    assert f"{path}/conv3_block1_0_bn_1/batchnorm/Rsqrt" in paths
    opened = drawn(resnet(), f"{path}/conv3_block1_0_bn_1/batchnorm")
    everything = opened._replace(opened=opened.opened | drawn(resnet()).opened)
    assert_same_places(found["boxes"], boxes_of(picture_svg(everything)))


def test_groups_open_and_close_by_click_and_key(tmp_path: Path) -> None:
    steps = (
        "press('scope'); press('scope', 'Enter'); press('scope/while'); press('scope/while', ' ');"
        "document.getElementById('less').click(); measure(); found.steps.push(found.boxes.length);"
        "document.getElementById('more').click(); measure(); found.steps.push(found.boxes.length);"
    )
    found = measured(picture_page(drawn(loop())), tmp_path, steps)
    closed, opened, without, within, fewest, more = found["steps"]
    assert closed == ["x", "scope", "result"]
    assert opened[:3] == ["x", "scope", "scope/while"]
    assert "scope/while/body" not in without
    assert "scope/while/body/n" in within
    assert fewest == 3
    assert more == 5


def test_search_and_facts(tmp_path: Path) -> None:
    steps = "seek('tanh'); seek('tanh'); seek('nothing like it'); hover('scope/r');"
    found = measured(picture_page(drawn(loop())), tmp_path, steps)
    first, second, nothing, facts = found["steps"]
    assert first == ["scope/while/body/n", "1 of 1"]
    assert second == first
    assert nothing[1] == "nothing found"
    assert "op\tRelu" in facts
    assert "input\tscope/while" in facts
    assert "path\tscope/r" in facts


def test_objects_open_and_references_lead_to_what_they_stand_for(tmp_path: Path) -> None:
    picture = drawn_objects(shared_and_cyclic())
    steps = "press('root/layers'); press('root/layers'); press('root/layers/1');"
    found = measured(objects_page(picture), tmp_path, steps)
    assert found["steps"][0] == ["root", "root/kernel", "root/layers"]
    assert "root/layers/1" in found["steps"][1]
    picture = picture._replace(opened=picture.opened | {"root/kernel"})
    assert_same_places(found["boxes"], boxes_of(objects_svg(picture)))
    found = measured(objects_page(picture), tmp_path, "seek('float32[2, 3]')")
    assert found["steps"] == [["root/kernel", "1 of 1"]]


@pytest.mark.parametrize("kind", ["function", "objects"])
def test_names_that_are_markup_run_nothing(tmp_path: Path, kind: str) -> None:
    name = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>&lt;"
    if kind == "function":
        rows = [("Relu", f"{name}/r", ["x"]), ("Tanh", f"{name}/t", [f"{name}/r"])]
        picture = drawn(graph(rows, f"{name}/t"))._replace(title=name)
        page = picture_page(picture)
    else:
        objects = drawn_objects(object_graph({0: {name: 1}, 1: {name: 2}}, 3))
        page = objects_page(objects._replace(title=name))
    file = tmp_path / "page.html"
    file.write_text(page, "utf-8")
    opened = open_page(file)  # as it is, with its own rules for scripts
    assert opened.console == []
    assert "<title>hacked" not in opened.html
    assert "<img" not in opened.html.partition("<script")[0]
    assert opened.html.count('class="item ') >= 3


def test_the_page_forbids_other_scripts_and_the_network(tmp_path: Path) -> None:
    page = picture_page(drawn(loop()))
    assert not re.search(r"(src|href)=|@import|https?://(?!www\.w3\.org/)", page)
    file = tmp_path / "page.html"
    other = "<script>document.title = 'other'</script></body>"
    file.write_text(page.replace("</body>", other), "utf-8")
    opened = open_page(file)
    assert "<title>other" not in opened.html
    assert any("Content Security Policy" in line for line in opened.console)
