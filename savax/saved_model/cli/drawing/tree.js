  // Pictures of objects: a tree with the root at the left

  const tree = {
    parents: null,
    parentOf(index) {
      if (!this.parents) {
        this.parents = new Array(data.nodes.length).fill(-1);
        data.nodes.forEach((node, i) => node.ch.forEach((child) => { this.parents[child] = i; }));
      }
      return this.parents[index];
    },
    pathOf(index) {
      const labels = [];
      for (let i = index; i >= 0; i = this.parentOf(i)) labels.push(data.nodes[i].e);
      return labels.reverse().join("/");
    },
    place() {
      const seen = [], pending = [{ node: data.nodes[0], path: data.nodes[0].e, parent: -1, depth: 0 }];
      while (pending.length) {
        const one = pending.pop(), position = seen.length;
        one.children = [];
        seen.push(one);
        if (one.parent >= 0) seen[one.parent].children.push(one);
        if (!opened.has(one.path)) continue;
        for (const index of [...one.node.ch].reverse()) {
          const node = data.nodes[index];
          pending.push({ node, path: one.path + "/" + node.e, parent: position, depth: one.depth + 1 });
        }
      }
      const boxes = [], labels = [], lefts = [0];
      for (const { node, depth } of seen) {
        boxes[depth] = Math.max(boxes[depth] || 0, node.w);
        labels[depth] = Math.max(labels[depth] || 0, node.ew);
      }
      for (let d = 1; d < boxes.length; d++) {
        lefts.push(lefts[d - 1] + boxes[d - 1] + size.curve + labels[d] + 2 * size.label_gap);
      }
      let bottom = 0;
      for (const one of seen) {
        one.x = lefts[one.depth];
        if (one.children.length) continue;
        one.middle = bottom + one.node.h / 2;
        bottom += one.node.h + size.tree_gap;
      }
      for (const one of [...seen].reverse()) {
        if (one.children.length) one.middle = (one.children[0].middle + one.children.at(-1).middle) / 2;
      }
      let top = Infinity, lowest = 0, width = 0;
      for (const one of seen) top = Math.min(top, one.middle - one.node.h / 2);
      for (const one of seen) {
        one.middle -= top;
        lowest = Math.max(lowest, one.middle + one.node.h / 2);
        width = Math.max(width, one.x + one.node.w);
      }
      return { seen, width, height: lowest };
    },
    draw(parent) {
      const placed = this.place();
      for (const one of placed.seen) {
        if (one.parent < 0) continue;
        const from = placed.seen[one.parent], start = from.x + from.node.w;
        const end = rounded(one.x - one.node.ew - 2 * size.label_gap);
        const middle = rounded(start + size.curve / 2), bent = rounded(start + size.curve);
        const high = rounded(from.middle), low = rounded(one.middle);
        const path = ["M" + rounded(start), high + "C" + middle, high, middle, low, bent, low + "L" + end, low];
        drawEdge(parent, path.join(" "), "data", false);
        element(parent, "text", {
          class: "label", x: rounded(one.x - size.label_gap), y: rounded(one.middle + 4),
        }, one.node.e);
      }
      for (const one of placed.seen) {
        const node = one.node, hasChildren = node.ch.length > 0;
        drawClosed(parent, node, one.path, one.x, one.middle - node.h / 2, hasChildren);
        const box = byPath.get(one.path);
        if (hasChildren) {
          box.setAttribute("aria-expanded", String(opened.has(one.path)));
          if (opened.has(one.path)) box.classList.add("open");
        } else if (node.to >= 0) {
          box.setAttribute("tabindex", "0");
          box.setAttribute("role", "link");
          box.addEventListener("click", () => show(this.pathOf(node.to)));
          box.addEventListener("keydown", (event) => {
            if (event.key === "Enter") show(this.pathOf(node.to));
          });
        }
      }
      return placed;
    },
    *walk() {
      const pending = [[0, data.nodes[0].e]];
      for (let i = 0; i < pending.length; i++) {
        const [index, path] = pending[i], item = data.nodes[index];
        yield { path, item, canOpen: item.ch.length > 0 };
        for (const child of item.ch) pending.push([child, path + "/" + data.nodes[child].e]);
      }
    },
    around(text) {
      const root = data.nodes[0].e, found = [root];
      let node = data.nodes[0], path = root, rest = text;
      if (rest === root) return found;
      if (rest.startsWith(root + "/")) rest = rest.slice(root.length + 1);
      while (rest) {
        const fitting = node.ch.map((i) => data.nodes[i])
          .filter((n) => rest === n.e || rest.startsWith(n.e + "/"));
        if (!fitting.length) return [];
        node = fitting.reduce((a, b) => (b.e.length > a.e.length ? b : a));
        path += "/" + node.e;
        rest = rest.slice(node.e.length + 1);
        found.push(path);
      }
      return found;
    },
  };

