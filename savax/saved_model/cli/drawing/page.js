"use strict";
// Places and draws what is open; `_placing.py` and `_tree.py` do the same for files that stand still.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const size = data.size;
  const opened = new Set(data.opened);
  const canvas = document.getElementById("canvas");
  const tip = document.getElementById("tip");
  const scroller = document.getElementById("scroller");
  const byPath = new Map(); // boxes that are seen
  let zoom = 1;
  let extent = { width: 0, height: 0 };

  function element(parent, name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  }

  const rounded = (value) => String(Math.round(value * 10) / 10);

  function rectangle(parent, kind, x, y, width, height, radius) {
    element(parent, "rect", {
      class: kind, x: rounded(x), y: rounded(y), width: rounded(width), height: rounded(height), rx: radius,
    });
  }

  // Boxes

  function drawClosed(parent, item, path, x, y, canOpen) {
    const box = element(parent, "g", { class: "item " + item.c, "data-path": path });
    if (canOpen && !opened.has(path)) rectangle(box, "behind", x + 4, y + 4, item.w, item.h, 6);
    rectangle(box, "box", x, y, item.w, item.h, item.c === "port" ? 3 : 6);
    if (item.c === "port") return;
    rectangle(box, "stripe", x, y + 4, 4, item.h - 8, 2);
    let top = y + size.padding;
    for (const [kind, text, width] of item.l) {
      const height = size.lines[kind];
      if (kind === "weight") {
        rectangle(box, "pill", x + (item.w - width - 12) / 2, top + 1.5, width + 12, height - 3, 7);
      }
      element(box, "text", {
        class: "middle " + kind, x: rounded(x + item.w / 2), y: rounded(top + height / 2 + 4),
      }, text);
      top += height;
    }
    byPath.set(path, box);
    explain(box, item, path);
    if (canOpen) onPress(box, path, false);
  }

  function explain(box, item, path) {
    box.addEventListener("pointerenter", (event) => {
      tip.replaceChildren();
      for (const [name, text] of [...item.f, ...(path ? [["path", path]] : [])]) {
        const row = document.createElement("tr");
        for (const [tag, content] of [["th", name], ["td", text]]) {
          const cell = document.createElement(tag);
          cell.textContent = content;
          row.appendChild(cell);
        }
        tip.appendChild(row);
      }
      tip.hidden = false;
      moveTip(event);
    });
    box.addEventListener("pointermove", moveTip);
    box.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  function moveTip(event) {
    const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
    const below = event.clientY + 16 + tip.offsetHeight > window.innerHeight;
    tip.style.left = Math.max(4, right ? event.clientX - tip.offsetWidth - 12 : event.clientX + 16) + "px";
    tip.style.top = Math.max(4, below ? event.clientY - tip.offsetHeight - 12 : event.clientY + 16) + "px";
  }

  function onPress(target, path, isOpen) {
    target.setAttribute("tabindex", "0");
    target.setAttribute("role", "button");
    target.setAttribute("aria-expanded", String(isOpen));
    const press = (event) => { event.stopPropagation(); toggle(path); };
    target.addEventListener("click", press);
    target.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); press(event); }
    });
  }

  function edgePath(points) {
    let path = "M" + rounded(points[0][0]) + " " + rounded(points[0][1]);
    for (let i = 1; i < points.length; i++) {
      const [x0, y0] = points[i - 1], [x, y] = points[i];
      if (x === x0 && y === y0) continue; // a tip needs a direction
      if (Math.abs(x - x0) < 0.5) path += "L" + rounded(x) + " " + rounded(y);
      else {
        const middle = rounded((y0 + y) / 2);
        path += "C" + rounded(x0) + " " + middle + " " + rounded(x) + " " + middle + " " + rounded(x) + " " + rounded(y);
      }
    }
    return path;
  }

  function drawEdge(parent, path, kind, hasTip) {
    const edge = element(parent, "path", { class: "edge " + kind, d: path });
    if (hasTip) edge.setAttribute("marker-end", "url(#tip-" + kind + ")");
  }

  // Pictures of functions: groups of boxes on grids

  const contentOf = (item) => (item.fn ? data.functions[item.fn] : item.g);

  function placeGroup(group, path) {
    const items = group.items.map((item) => {
      const own = path + item.k;
      const inner = item.k && opened.has(own) ? contentOf(item) : undefined;
      const placed = { item, path: own, x: 0, y: 0, w: item.w, h: item.h, content: null };
      if (inner) {
        placed.content = placeGroup(inner, own + "/");
        placed.w = Math.max(placed.content.w + 2 * size.margin, item.n);
        placed.h = size.header + placed.content.top + placed.content.h + placed.content.bottom;
      }
      return placed;
    });
    const w = placeColumns(items, group.columns);
    const rows = placeRows(items);
    const edges = placeEdges(items, group.links, rows);
    const ofPorts = items.filter((p) => p.item.c === "port").map((p) => p.item.r);
    return {
      w, h: rows.h, items, edges,
      top: ofPorts.some((row) => row === 0) ? 0 : size.margin,
      bottom: ofPorts.some((row) => row !== 0) ? 0 : size.margin,
    };
  }

  function placeColumns(items, columns) {
    const starting = Array.from({ length: columns + 1 }, () => []);
    const ending = Array.from({ length: columns + 1 }, () => []);
    const room = (p) => p.w + (p.item.k ? size.gap : size.thin_gap);
    for (const p of items) {
      starting[p.item.x].push(p);
      ending[p.item.x + p.item.s].push(p);
    }
    const early = new Array(columns + 1).fill(0);
    for (let c = 1; c <= columns; c++) {
      early[c] = Math.max(early[c - 1], ...ending[c].map((p) => early[p.item.x] + room(p)));
    }
    const late = new Array(columns + 1).fill(early[columns]);
    for (let c = columns - 1; c >= 0; c--) {
      late[c] = Math.min(late[c + 1], ...starting[c].map((p) => late[c + p.item.s] - room(p)));
    }
    const border = (c) => (early[c] + late[c]) / 2;
    let least = Infinity, most = 0;
    for (const p of items) {
      p.x = (border(p.item.x) + border(p.item.x + p.item.s) - p.w) / 2;
      least = Math.min(least, p.x);
    }
    for (const p of items) {
      p.x -= least;
      most = Math.max(most, p.x + p.w);
    }
    return most;
  }

  function placeRows(items) {
    const heights = [], tops = [], bottoms = [];
    for (const p of items) heights[p.item.r] = Math.max(heights[p.item.r] || 0, p.h);
    let y = 0;
    for (let row = 0; row < heights.length; row++) {
      tops.push(y);
      bottoms.push(y + (heights[row] || 0));
      y += (heights[row] || 0) + size.row_gap;
    }
    for (const p of items) p.y = tops[p.item.r] + ((heights[p.item.r] || 0) - p.h) / 2;
    return { h: Math.max(0, y - size.row_gap), tops, bottoms };
  }

  const center = (p) => p.x + p.w / 2;
  const contentX = (p) => p.x + (p.w - p.content.w) / 2;
  const portX = (p, port, other) =>
    port < 0 || !p.content ? other : contentX(p) + center(p.content.items[port]);

  function placeEdges(items, links, rows) {
    const starts = links.map((link) => {
      const source = items[link.a], row = source.item.r, x = portX(source, link.o, center(source));
      const points = link.u
        ? [[x, source.y], [x, rows.tops[row]]]
        : [[x, source.y + source.h], [x, rows.bottoms[row]]];
      for (const bend of link.u ? [...link.m].reverse() : link.m) {
        const at = center(items[bend]), its = items[bend].item.r;
        const ends = [[at, rows.tops[its]], [at, rows.bottoms[its]]];
        points.push(...(link.u ? ends.reverse() : ends));
      }
      return points;
    });
    const arriving = new Map();
    links.forEach((link, i) => {
      if (!arriving.has(link.b)) arriving.set(link.b, new Set());
      arriving.get(link.b).add(starts[i].at(-1)[0]);
    });
    for (const [target, places] of arriving) arriving.set(target, [...places].sort((a, b) => a - b));
    const found = new Map();
    links.forEach((link, i) => {
      const target = items[link.b], row = target.item.r, places = arriving.get(link.b);
      const step = Math.max(0, Math.min(size.port_step, (target.w - 20) / Math.max(1, places.length - 1)));
      const shift = places.indexOf(starts[i].at(-1)[0]) - (places.length - 1) / 2;
      const x = portX(target, link.i, center(target) + shift * step);
      const ends = link.u
        ? [[x, rows.bottoms[row]], [x, target.y + target.h]]
        : [[x, rows.tops[row]], [x, target.y]];
      const path = edgePath([...starts[i], ...ends]), kind = link.u ? "turned" : link.t ? "control" : "data";
      found.set(kind + path, { path, kind, hasTip: target.item.c !== "port" });
    });
    return [...found.values()];
  }

  function drawGroup(parent, group, depth) {
    for (const edge of group.edges) drawEdge(parent, edge.path, edge.kind, edge.hasTip);
    for (const p of group.items) {
      if (p.item.c === "bend") continue;
      if (p.content) drawOpen(parent, p, depth);
      else drawClosed(parent, p.item, p.item.k ? p.path : "", p.x, p.y, Boolean(contentOf(p.item)));
    }
  }

  function drawOpen(parent, p, depth) {
    const box = element(parent, "g", { class: "item " + p.item.c + " open", "data-path": p.path });
    rectangle(box, depth % 2 ? "frame odd" : "frame", p.x, p.y, p.w, p.h, 8);
    const header = element(box, "g", { class: "header-box" });
    rectangle(header, "header", p.x + 0.6, p.y + 0.6, p.w - 1.2, size.header - 1.2, 7);
    element(header, "text", {
      class: "title", x: rounded(p.x + 12), y: rounded(p.y + size.header / 2 + 4.5),
    }, p.item.l[0][1]);
    explain(header, p.item, p.path);
    onPress(header, p.path, true);
    const origin = [contentX(p), p.y + size.header + p.content.top];
    const inner = element(box, "g", { transform: "translate(" + origin.map(rounded).join(" ") + ")" });
    byPath.set(p.path, box);
    drawGroup(inner, p.content, depth + 1);
  }

  const functions = {
    draw(parent) {
      const placed = placeGroup(data.root, "");
      drawGroup(parent, placed, 0);
      return { width: placed.w, height: placed.h };
    },
    // Yields path, item and whether it can be opened, in the order of the picture.
    *walk() {
      const pending = [[data.root, "", []]];
      let left = 200000;
      for (let i = 0; i < pending.length; i++) {
        const [group, path, calls] = pending[i];
        for (const item of group.items) {
          if (!item.k || left-- < 0) continue;
          const content = contentOf(item);
          yield { path: path + item.k, item, canOpen: Boolean(content) };
          if (content && !calls.includes(item.fn)) {
            pending.push([content, path + item.k + "/", item.fn ? [...calls, item.fn] : calls]);
          }
        }
      }
    },
    // Returns the paths of an item and of those around it; [] if there is none.
    around(text) {
      const found = [];
      let group = data.root, path = "", rest = text;
      while (rest && group) {
        const fitting = group.items.filter((i) => i.k && (rest === i.k || rest.startsWith(i.k + "/")));
        if (!fitting.length) return [];
        const item = fitting.reduce((a, b) => (b.k.length > a.k.length ? b : a));
        found.push(path + item.k);
        path += item.k + "/";
        rest = rest.slice(item.k.length + 1);
        group = contentOf(item);
      }
      return rest ? [] : found;
    },
  };

//TREE
  // The page

  const view = data.root ? functions : tree;

  function draw() {
    byPath.clear();
    tip.hidden = true;
    canvas.querySelectorAll(":scope > g").forEach((old) => old.remove());
    const layer = element(canvas, "g", { transform: "translate(24 24)" });
    extent = view.draw(layer);
    resize();
  }

  function resize() {
    const width = extent.width + 48, height = extent.height + 48;
    canvas.setAttribute("viewBox", "0 0 " + rounded(width) + " " + rounded(height));
    canvas.setAttribute("width", rounded(width * zoom));
    canvas.setAttribute("height", rounded(height * zoom));
  }

  function toggle(path) {
    const before = byPath.get(path).getBoundingClientRect();
    if (!opened.delete(path)) opened.add(path);
    draw();
    const box = byPath.get(path), after = box.getBoundingClientRect();
    scroller.scrollBy(after.left - before.left, after.top - before.top);
    (box.querySelector("[tabindex]") || box).focus({ preventScroll: true });
  }

  function show(text) {
    const around = view.around(text);
    if (!around.length) return false;
    around.forEach((path) => opened.add(path));
    const last = around.at(-1);
    draw();
    const box = byPath.get(last);
    if (!box) return false;
    box.classList.add("found");
    box.scrollIntoView({ block: "center", inline: "center" });
    return true;
  }

  function showHash() {
    if (location.hash.length > 1) {
      let text = location.hash.slice(1);
      try { text = decodeURIComponent(text); } catch { /* as it is */ }
      show(text);
    }
  }

  const search = document.getElementById("search");
  const count = document.getElementById("count");
  let matches = [], next = 0, sought = "";
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const text = search.value.trim().toLowerCase();
    if (!text) return;
    if (text !== sought) {
      sought = text;
      next = 0;
      matches = [];
      for (const { path, item } of view.walk()) {
        const texts = [path, ...item.l.map((line) => line[1]), ...item.f.map((fact) => fact[1])];
        if (texts.some((one) => one.toLowerCase().includes(text))) matches.push(path);
        if (matches.length >= 1000) break;
      }
    }
    if (matches.length) {
      show(matches[next]);
      count.textContent = next + 1 + " of " + matches.length;
      next = (next + 1) % matches.length;
    } else count.textContent = "nothing found";
  });

  document.getElementById("more").addEventListener("click", () => {
    const closed = [];
    for (const { path, canOpen } of view.walk()) {
      if (canOpen && !opened.has(path) && byPath.has(path)) closed.push(path);
    }
    closed.slice(0, 300).forEach((path) => opened.add(path));
    draw();
  });
  document.getElementById("less").addEventListener("click", () => { opened.clear(); draw(); });
  const zoomBy = (factor) => { zoom = Math.min(4, Math.max(0.05, zoom * factor)); resize(); };
  document.getElementById("larger").addEventListener("click", () => zoomBy(1.25));
  document.getElementById("smaller").addEventListener("click", () => zoomBy(0.8));
  document.getElementById("fit").addEventListener("click", () => {
    const width = scroller.clientWidth / (extent.width + 48);
    zoom = Math.min(1, width, scroller.clientHeight / (extent.height + 48));
    resize();
  });
  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.1 : 1 / 1.1);
  }, { passive: false });

  draw();
  if (view === functions) scroller.scrollLeft = (scroller.scrollWidth - scroller.clientWidth) / 2;
  showHash();
  window.addEventListener("hashchange", showHash);
})();
