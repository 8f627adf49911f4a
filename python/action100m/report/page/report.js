"use strict";
(() => {
  const id = (name) => document.getElementById(name);
  const read = (element) => JSON.parse(element.textContent);
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const number = (value) => value.toLocaleString("en-US");
  const counted = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // Formats seconds as [h:]mm:ss, with the given number of decimals.
  const clock = (seconds, digits = 0) => {
    const scale = 10 ** digits;
    const units = Math.round(seconds * scale);
    const whole = Math.floor(units / scale);
    const pad = (value) => String(value).padStart(2, "0");
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const tail = digits ? "." + String(units % scale).padStart(digits, "0") : "";
    return (h ? `${h}:${pad(m)}` : m) + `:${pad(s)}${tail}`;
  };
  const lasting = (seconds) => {
    if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
    return seconds < 59.5 ? `${seconds.toFixed(0)} s` : clock(seconds);
  };

  for (const section of document.querySelectorAll(".scripted")) section.hidden = false;

  // ---- the tree of one video -------------------------------------------------------------

  const STRIP = 68, GAP = 8, AXIS = 26;
  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const details = [...document.querySelectorAll("script.detail")];
  const palette = read(id("palette")).map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const plant = (detail) => {
    const { parent } = detail;
    const n = parent.length;
    const tree = { ...detail, n, start: detail.start.map((t) => t / 100), end: detail.end.map((t) => t / 100) };
    tree.level = new Int32Array(n);
    tree.firstChild = new Int32Array(n).fill(-1);
    tree.leaves = new Int32Array(n);
    for (let i = 1; i < n; i++) {
      tree.level[i] = tree.level[parent[i]] + 1;
      if (tree.firstChild[parent[i]] < 0) tree.firstChild[parent[i]] = i;
    }
    for (let i = n - 1; i >= 0; i--) {
      if (tree.firstChild[i] < 0) tree.leaves[i] = 1;
      if (i) tree.leaves[parent[i]] += tree.leaves[i];
    }
    tree.levels = tree.level[n - 1] + 1;
    tree.images = tree.pictures.map(([seconds, jpeg]) => {
      const image = new Image();
      image.onload = () => viewer.tree === tree && draw();
      image.src = "data:image/jpeg;base64," + jpeg;
      return { seconds, image };
    });
    return tree;
  };

  const canvas = id("tree");
  const viewer = { place: 0, tree: null, view: [0, 1], hover: -1, focus: -1, moving: 0 };

  const layout = () => {
    const { tree } = viewer;
    const top = tree.images.length ? STRIP + GAP : 0;
    const row = clamp(Math.floor(380 / tree.levels), 13, 26);
    return { top, row, width: canvas.clientWidth, height: top + row * tree.levels + AXIS };
  };
  const place = (seconds, width) => ((seconds - viewer.view[0]) / (viewer.view[1] - viewer.view[0])) * width;

  function draw() {
    const { tree } = viewer;
    const { top, row, width, height } = layout();
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.style.height = `${height}px`;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const css = getComputedStyle(document.documentElement);
    const inks = { ink: css.getPropertyValue("--ink"), quiet: css.getPropertyValue("--quiet"), paper: css.getPropertyValue("--card") };
    pen.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
    pen.textBaseline = "middle";
    drawPictures(pen, width, inks);
    for (let i = 0; i < tree.n; i++) drawSegment(pen, i, top, row, width, inks);
    drawAxis(pen, top + row * tree.levels, width, inks);
    const active = viewer.hover >= 0 ? viewer.hover : document.activeElement === canvas ? viewer.focus : -1;
    if (active >= 0) drawFrame(pen, active, top, row, width, inks);
  }

  // Draws equal slots with the pictures nearest in time: none twice, none from outside the view.
  function drawPictures(pen, width, inks) {
    const [from, to] = viewer.view;
    const seen = viewer.tree.images.filter(({ seconds }) => seconds >= from && seconds <= to);
    if (!viewer.tree.images.length) return;
    if (!seen.length) {
      pen.fillStyle = inks.quiet;
      pen.textAlign = "center";
      pen.fillText("no picture of this part was kept", width / 2, STRIP / 2);
      return;
    }
    const first = seen[0].image;
    const natural = STRIP * (first.naturalWidth ? first.naturalWidth / first.naturalHeight : 16 / 9);
    const slots = Math.max(1, Math.min(Math.round(width / natural), seen.length));
    const slot = width / slots;
    const wide = Math.min(slot, natural * 1.3) - 3;
    const nearest = Array.from({ length: slots }, (_, k) => {
      const middle = from + ((k + 0.5) / slots) * (to - from);
      return seen.reduce((best, one) => (Math.abs(one.seconds - middle) < Math.abs(best.seconds - middle) ? one : best));
    });
    for (let k = 0; k < slots; ) {
      let last = k;
      while (last + 1 < slots && nearest[last + 1] === nearest[k]) last++;
      drawPicture(pen, nearest[k].image, ((k + last + 1) / 2) * slot - wide / 2, wide);
      k = last + 1;
    }
  }

  function drawPicture(pen, image, x, wide) {
    if (!image.naturalWidth) return;
    const scale = Math.max(wide / image.naturalWidth, STRIP / image.naturalHeight);
    const [w, h] = [wide / scale, STRIP / scale];
    pen.save();
    pen.beginPath();
    pen.roundRect(x, 0, wide, STRIP, 3);
    pen.clip();
    pen.drawImage(image, (image.naturalWidth - w) / 2, (image.naturalHeight - h) / 2, w, h, x, 0, wide, STRIP);
    pen.restore();
  }

  function drawSegment(pen, i, top, row, width, inks) {
    const { tree } = viewer;
    const left = place(tree.start[i], width);
    const right = place(tree.end[i], width);
    if (right < 0 || left > width) return;
    const leaf = tree.firstChild[i] < 0;
    const color = palette[tree.color[i]].map((c) => (dark.matches ? c + (255 - c) * 0.2 : c));
    pen.fillStyle = `rgba(${color.map(Math.round)},${leaf ? 1 : dark.matches ? 0.4 : 0.42})`;
    const y = top + tree.level[i] * row;
    pen.fillRect(left, y, right - left - Math.min(1, (right - left) / 4), row - 1);
    const [low, high] = [Math.max(left, 0), Math.min(right, width)];
    if (high - low < 44) return;
    const bright = color[0] * 0.3 + color[1] * 0.59 + color[2] * 0.11;
    pen.fillStyle = !leaf ? inks.ink : bright < 132 ? "#fff" : "#1e2126";
    pen.textAlign = "center";
    pen.fillText(lasting(tree.end[i] - tree.start[i]), (low + high) / 2, y + row / 2);
  }

  function drawAxis(pen, y, width, inks) {
    const [from, to] = viewer.view;
    const step = STEPS.find((s) => ((to - from) / s) * 74 <= width) ?? (to - from) / 8;
    pen.fillStyle = inks.quiet;
    for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9; k++) {
      const x = place(k * step, width);
      pen.fillRect(clamp(x, 0, width - 1), y + 3, 1, 4);
      pen.textAlign = x < 16 ? "left" : x > width - 16 ? "right" : "center";
      pen.fillText(clock(k * step, step < 1 ? 1 : 0), x, y + 17);
    }
  }

  // Frames a segment, and fades the filmstrip outside it.
  function drawFrame(pen, i, top, row, width, inks) {
    const { tree } = viewer;
    const left = clamp(place(tree.start[i], width), 0, width);
    const right = clamp(place(tree.end[i], width), 0, width);
    pen.fillStyle = inks.paper;
    pen.globalAlpha = 0.62;
    if (top) {
      pen.fillRect(0, 0, left, STRIP);
      pen.fillRect(right, 0, width - right, STRIP);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = inks.ink;
    if (top) pen.fillRect(left, STRIP + 3, Math.max(right - left, 1), 2);
    pen.strokeStyle = inks.ink;
    pen.lineWidth = 2;
    pen.strokeRect(left + 1, top + tree.level[i] * row, Math.max(right - left - 2, 1), row - 1);
  }

  function tell(i) {
    const { tree } = viewer;
    const kind = tree.firstChild[i] < 0 ? "leaf" : `${number(tree.leaves[i])} leaves`;
    id("tree-segment").textContent =
      `${clock(tree.start[i], 2)} – ${clock(tree.end[i], 2)}  ·  ${lasting(tree.end[i] - tree.start[i])}  ·  level ${tree.level[i]}  ·  ${kind}`;
  }

  function zoom(i) {
    const { tree } = viewer;
    const [from, to] = [viewer.view, [tree.start[i], tree.end[i]]];
    const began = performance.now();
    const moving = ++viewer.moving;
    id("whole").hidden = i === 0;
    const step = (now) => {
      if (moving !== viewer.moving) return;
      const t = still.matches ? 1 : clamp((now - began) / 260, 0, 1);
      const eased = 1 - (1 - t) ** 3;
      viewer.view = t < 1 ? [0, 1].map((k) => from[k] + (to[k] - from[k]) * eased) : to;
      draw();
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  function segmentAt(event) {
    const { tree } = viewer;
    const { top, row, width } = layout();
    const box = canvas.getBoundingClientRect();
    const level = Math.floor((event.clientY - box.top - top) / row);
    const seconds = viewer.view[0] + ((event.clientX - box.left) / width) * (viewer.view[1] - viewer.view[0]);
    for (let i = 0; i < tree.n; i++) {
      if (tree.level[i] === level && tree.start[i] <= seconds && seconds < tree.end[i]) return i;
    }
    return -1;
  }

  function walk(key) {
    const { tree, focus } = viewer;
    const next = {
      ArrowUp: tree.parent[focus],
      ArrowDown: tree.firstChild[focus],
      ArrowLeft: focus - 1,
      ArrowRight: focus + 1,
      Home: 0,
    }[key];
    if (next === undefined) return false;
    const sideways = key === "ArrowLeft" || key === "ArrowRight";
    if (next < 0 || next >= tree.n || (sideways && tree.level[next] !== tree.level[focus])) return true;
    viewer.focus = next;
    const [from, to] = viewer.view;
    if (tree.start[next] < from || tree.end[next] > to) zoom(tree.parent[next] < 0 ? 0 : tree.parent[next]);
    tell(next);
    draw();
    return true;
  }

  function show(at) {
    viewer.place = at;
    viewer.tree = plant(read(details[at]));
    const { tree } = viewer;
    viewer.moving++;
    Object.assign(viewer, { view: [0, tree.end[0]], hover: -1, focus: 0 });
    id("whole").hidden = true;
    id("pick").value = String(at);
    id("previous").disabled = at === 0;
    id("next").disabled = at === details.length - 1;
    id("tree-title").textContent = tree.title || tree.uid;
    id("tree-facts").textContent = [
      lasting(tree.end[0]), counted(tree.n, "segment", "segments"),
      counted(tree.leaves[0], "leaf", "leaves"), counted(tree.levels, "level", "levels"),
      ...tree.notes, tree.path,
    ].join("  ·  ");
    id("tree-segment").textContent = "";
    draw();
  }

  if (details.length) {
    canvas.addEventListener("pointermove", (event) => {
      viewer.hover = segmentAt(event);
      if (viewer.hover >= 0) tell(viewer.hover);
      draw();
    });
    canvas.addEventListener("pointerleave", () => { viewer.hover = -1; draw(); });
    canvas.addEventListener("focus", draw);
    canvas.addEventListener("blur", draw);
    canvas.addEventListener("click", (event) => {
      const i = segmentAt(event);
      if (i < 0) return;
      viewer.focus = i;
      zoom(i);
    });
    canvas.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "Enter" || event.key === " ") zoom(viewer.focus);
      else if (event.key === "Escape") zoom(0);
      else if (!walk(event.key)) return;
      event.preventDefault();
    });
    id("whole").addEventListener("click", () => zoom(0));
    id("pick").addEventListener("change", (event) => show(Number(event.target.value)));
    id("previous").addEventListener("click", () => show(viewer.place - 1));
    id("next").addEventListener("click", () => show(viewer.place + 1));
    new ResizeObserver(() => viewer.tree && draw()).observe(canvas);
    dark.addEventListener("change", draw);
    addEventListener("beforeprint", draw);
  }

  // ---- the table of all videos -----------------------------------------------------------

  const STATES = read(id("state-names"));
  const PER_PAGE = 50;
  const [STATE, UID, TITLE, DURATION, LEAVES, DEPTH, COVERAGE, NOTE, PATH, TREE] = Array(10).keys();
  const COLUMNS = [
    ["state", STATE], ["video", UID], ["length", DURATION], ["leaves", LEAVES], ["depth", DEPTH],
    ["coverage", COVERAGE], ["notes", NOTE],
  ];
  const rows = read(id("rows"));
  const haystacks = rows.map((row) => [row[UID], row[TITLE], row[NOTE], row[PATH]].join("\n").toLowerCase());
  const table = { page: 0, state: -1, by: -1, down: false, found: [] };

  const ordered = (a, b) => {
    const shown = (row) => (table.by === UID ? row[TITLE] || row[UID] : row[table.by]);
    const [x, y] = [shown(rows[a]), shown(rows[b])];
    if (x === y) return a - b;
    if (x === null || x === "") return 1;
    if (y === null || y === "") return -1;
    const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return table.down ? -order : order;
  };

  function find() {
    const words = id("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    table.found = [...rows.keys()].filter(
      (i) => (table.state < 0 || rows[i][STATE] === table.state) && words.every((word) => haystacks[i].includes(word)),
    );
    if (table.by >= 0) table.found.sort(ordered);
    table.page = 0;
    fill();
  }

  function line(row) {
    const state = STATES[row[STATE]];
    const label = row[TITLE] || row[UID];
    const name = make("td", { className: "name", title: row[PATH] });
    if (row[TREE] >= 0) {
      const open = make("button", { type: "button", textContent: label, dir: "auto" });
      open.addEventListener("click", () => {
        show(row[TREE]);
        id("trees").scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
        canvas.focus({ preventScroll: true });
      });
      name.append(open);
    } else name.append(make("bdi", { textContent: label }));
    if (row[TITLE]) name.append(make("span", { className: "quiet" }, make("bdi", { textContent: row[UID] })));
    const figure = (value, text) => make("td", { className: "number", textContent: value === null ? "" : text(value) });
    return make(
      "tr", {},
      make("td", { className: "state" }, make("span", { className: `dot ${state}` }), state),
      name,
      figure(row[DURATION], lasting),
      figure(row[LEAVES], number),
      figure(row[DEPTH], number),
      figure(row[COVERAGE], (share) => `${Math.floor(share * 1000) / 10} %`),
      make("td", { className: "note" }, make("bdi", { textContent: row[NOTE] })),
    );
  }

  function fill() {
    const pages = Math.max(1, Math.ceil(table.found.length / PER_PAGE));
    const first = table.page * PER_PAGE;
    const shown = table.found.slice(first, first + PER_PAGE);
    id("table").tBodies[0].replaceChildren(...shown.map((i) => line(rows[i])));
    id("found").textContent = `${number(table.found.length)} of ${number(rows.length)} videos`;
    id("page").textContent = `page ${number(table.page + 1)} of ${number(pages)}`;
    id("pages").hidden = pages === 1;
    id("pages").style.display = pages === 1 ? "none" : "";
    id("back").disabled = table.page === 0;
    id("forward").disabled = table.page === pages - 1;
  }

  function turn(by) {
    table.page += by;
    fill();
    id("videos").scrollIntoView();
  }

  const heads = COLUMNS.map(([title, column]) => {
    const head = make("th", { scope: "col" });
    const button = make("button", { type: "button", textContent: title });
    if ([DURATION, LEAVES, DEPTH, COVERAGE].includes(column)) head.className = "number";
    button.addEventListener("click", () => {
      table.down = table.by === column && !table.down;
      table.by = column;
      for (const [i, [name]] of COLUMNS.entries()) {
        heads[i].removeAttribute("aria-sort");
        heads[i].firstChild.textContent = name;
      }
      head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
      button.textContent = `${title} ${table.down ? "↓" : "↑"}`;
      find();
    });
    head.append(button);
    return head;
  });
  id("table").tHead.rows[0].append(...heads);

  const filters = [-1, ...STATES.keys()]
    .map((state) => [state, rows.filter((row) => state < 0 || row[STATE] === state).length])
    .filter(([state, count]) => state < 0 || count)
    .map(([state, count]) => {
      const dot = state < 0 ? [] : [make("span", { className: `dot ${STATES[state]}` })];
      const button = make("button", { type: "button" }, ...dot, `${state < 0 ? "all" : STATES[state]} ${number(count)}`);
      button.setAttribute("aria-pressed", String(state < 0));
      button.addEventListener("click", () => {
        table.state = state;
        for (const other of filters) other.setAttribute("aria-pressed", String(other === button));
        find();
      });
      return button;
    });
  id("states").append(...filters);
  id("search").addEventListener("input", find);
  id("back").addEventListener("click", () => turn(-1));
  id("forward").addEventListener("click", () => turn(1));
  find();

  if (details.length) {
    const names = new Map(rows.filter((row) => row[TREE] >= 0).map((row) => [row[TREE], row[TITLE] || row[UID]]));
    id("pick").append(
      ...details.map((_, at) => make("option", { value: String(at), textContent: `${at + 1}. ${names.get(at) ?? "…"}` })),
    );
    show(0);
  }
})();
