"use strict";
// Draws the report from the JSON in #data. Names are only ever set as text, never parsed as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { bytes, kib, dram, KINDS, KIND_NAMES } = charts;
  const HUES = 6;
  const OP = { width: 132, height: 36 };
  const FAR = 0.62; // below this zoom ops cannot be read and groups show their number instead
  const OVERVIEW = 0.26; // a first view of the whole network is no smaller than this
  const MANY_OPS = 150;
  const WIDEST = 16;
  const LISTED = 5;
  const NARROW = 640; // below this width the network runs from top to bottom

  const hue = (index) => `h${index % HUES}`;
  const groupOf = (op) => data.ops[op].group;
  const plural = (n, word) => `${d3.format(",")(n)} ${word}${n === 1 ? "" : "s"}`;

  const state = { open: new Set(), selected: 0, hits: [], hit: -1, drawing: null, k: 1 };
  if (data.ops.length <= MANY_OPS) data.groups.forEach((g) => state.open.add(g.index));

  /** The end of a name says more than its start: "…features.3/Conv". */
  function tail(name, length) {
    return name.length <= length ? name : `…${name.slice(name.length - length + 1)}`;
  }

  // Layout ------------------------------------------------------------------------------------

  function laidOut(options, nodes, edges) {
    const g = new dagre.graphlib.Graph({ multigraph: true }).setGraph({ marginx: 0, marginy: 0, ...options });
    g.setDefaultEdgeLabel(() => ({}));
    nodes.forEach((n) => g.setNode(n.id, { width: n.width, height: n.height }));
    edges.forEach((e) => g.setEdge(e.from, e.to, { width: 0, height: 0 }, e.id));
    dagre.layout(g);
    nodes.forEach((n) => Object.assign(n, { x: g.node(n.id).x, y: g.node(n.id).y }));
    edges.forEach((e) => { e.points = g.edge(e.from, e.to, e.id).points; });
    return { width: g.graph().width, height: g.graph().height, nodes, edges };
  }

  /** The ops of one group from top to bottom, and the tensors that stay on chip between them. */
  function inside(group) {
    const own = new Set(group.ops);
    const nodes = group.ops.map((op) => ({ id: `op${op}`, op, ...OP }));
    const edges = [];
    data.tensors.forEach((t, index) => {
      if (!own.has(t.source)) return;
      t.targets.filter((op) => own.has(op)).forEach((op) => {
        edges.push({ id: `t${index}`, from: `op${t.source}`, to: `op${op}`, tensor: index });
      });
    });
    return laidOut({ rankdir: "TB", nodesep: 14, ranksep: 22 }, nodes, edges);
  }

  function boxOf(group) {
    const box = { id: `g${group.index}`, group };
    if (!state.open.has(group.index)) return { ...box, width: 124, height: 46 };
    const ops = inside(group);
    return { ...box, ops, width: ops.width + 24, height: ops.height + 44 };
  }

  /** One edge for each pair of groups, as thick as all its tensors; ports for network inputs and outputs. */
  function crossings() {
    const ports = [], pairs = new Map();
    const port = (id, tensor) => { ports.push({ id, tensor, width: 104, height: 26 }); return id; };
    data.tensors.forEach((t, index) => {
      const from = t.source < 0 ? port(`in${index}`, index) : `g${groupOf(t.source)}`;
      const readers = new Set(t.targets.map((op) => (op < 0 ? port(`out${index}`, index) : `g${groupOf(op)}`)));
      readers.delete(from);
      readers.forEach((to) => {
        const key = `${from} ${to}`;
        if (!pairs.has(key)) pairs.set(key, { id: key, from, to, tensors: [], nbytes: 0 });
        pairs.get(key).tensors.push(t);
        pairs.get(key).nbytes += t.nbytes;
      });
    });
    return { ports, edges: [...pairs.values()] };
  }

  const thickest = d3.max(crossings().edges, (e) => e.nbytes);

  function layout(vertical) {
    const boxes = data.groups.map(boxOf);
    const { ports, edges } = crossings();
    const rankdir = vertical ? "TB" : "LR";
    const whole = laidOut({ rankdir, nodesep: 26, ranksep: 46, edgesep: 14 }, [...boxes, ...ports], edges);
    return { ...whole, boxes, ports, vertical };
  }

  // Network -----------------------------------------------------------------------------------

  const figure = d3.select("#graph");
  const svg = figure.append("svg").attr("role", "img").attr("aria-label", "Groups of the plan and the tensors between");
  const canvas = svg.append("g");
  const zoom = d3.zoom().scaleExtent([0.02, 3]).on("zoom", (event) => {
    canvas.attr("transform", event.transform);
    if (event.transform.k === state.k) return;
    state.k = event.transform.k;
    svg.classed("far", state.k < FAR);
    if (state.k < FAR) sizeFarLabels();
  });
  svg.call(zoom).on("dblclick.zoom", null);

  /** Large enough to read at this zoom, small enough for its box. */
  function sizeFarLabels() {
    canvas.selectAll(".far-label").style("font-size", (b) => `${Math.min(15 / state.k, b.width / 2, b.height * 0.8)}px`);
  }

  function drawNetwork() {
    const drawing = layout(figure.node().clientWidth < NARROW);
    state.drawing = drawing;
    canvas.text("");
    drawEdges(drawing);
    drawPorts(drawing.ports);
    drawHulls(drawing.boxes);
    sizeFarLabels();
    showSelection();
    showHits();
  }

  function drawEdges({ edges }) {
    const line = d3.line((p) => p.x, (p) => p.y).curve(d3.curveBasis);
    canvas.append("g").selectAll("path").data(edges).join("path")
      .attr("class", (e) => `edge${e.from.startsWith("g") && e.to.startsWith("g") ? "" : " io"}`)
      .attr("d", (e) => line(e.points))
      .attr("stroke-width", (e) => Math.max(1.2, WIDEST * e.nbytes / thickest))
      .append("title").text(crossingText);
  }

  function crossingText(e) {
    const end = (id) => (id.startsWith("g") ? `group ${id.slice(1)}` : `network ${id.startsWith("in") ? "input" : "output"}`);
    const names = e.tensors.slice(0, LISTED).map((t) => `${t.name}: ${bytes(t.nbytes)}`);
    const more = e.tensors.length > LISTED ? [`and ${e.tensors.length - LISTED} more`] : [];
    return [`${end(e.from)} to ${end(e.to)}, ${bytes(e.nbytes)}`, ...names, ...more].join("\n");
  }

  function drawPorts(ports) {
    const port = canvas.append("g").selectAll("g").data(ports).join("g").attr("class", "port")
      .attr("transform", (p) => `translate(${p.x - p.width / 2},${p.y - p.height / 2})`);
    port.append("rect").attr("width", (p) => p.width).attr("height", (p) => p.height).attr("rx", 13);
    port.append("text").attr("class", "near-label").attr("x", 52).attr("y", 17).attr("text-anchor", "middle")
      .text((p) => tail(data.tensors[p.tensor].name, 15));
    port.append("title").text((p) => {
      const t = data.tensors[p.tensor];
      return `${p.id.startsWith("in") ? "network input" : "network output"} ${t.name}: ${bytes(t.nbytes)}`;
    });
  }

  function drawHulls(boxes) {
    const hull = canvas.append("g").selectAll("g").data(boxes).join("g")
      .attr("class", (b) => `hull ${hue(b.group.index)}`)
      .classed("alone", (b) => b.group.scheme === "layerwise")
      .attr("data-group", (b) => b.group.index)
      .attr("tabindex", 0)
      .attr("role", "button")
      .attr("aria-label", (b) => `Group ${b.group.index}, ${plural(b.group.ops.length, "op")}`)
      .attr("transform", (b) => `translate(${b.x - b.width / 2},${b.y - b.height / 2})`)
      .on("click", (event, b) => select(b.group.index))
      .on("dblclick", (event, b) => toggle(b.group.index))
      .on("keydown", pressed);
    hull.append("rect").attr("class", "box").attr("rx", 10).attr("width", (b) => b.width).attr("height", (b) => b.height);
    hull.append("title").text((b) => `group ${b.group.index}: ${plural(b.group.ops.length, "op")}, ${bytes(dram(b.group))}`);
    const label = hull.append("text").attr("class", "near-label").attr("x", 12).attr("y", 19);
    label.append("tspan").attr("font-weight", 650).text((b) => b.group.index);
    label.append("tspan").attr("class", "bytes").attr("dx", 6)
      .text((b) => (b.ops ? bytes(dram(b.group)) : plural(b.group.ops.length, "op")));
    hull.filter((b) => !b.ops).append("text").attr("class", "near-label bytes").attr("x", 12).attr("y", 35)
      .text((b) => bytes(dram(b.group)));
    hull.append("text").attr("class", "far-label").attr("x", (b) => b.width / 2).attr("y", (b) => b.height / 2)
      .text((b) => b.group.index);
    hull.filter((b) => b.ops).each(drawOps);
  }

  function pressed(event, box) {
    if (event.key === "Enter") select(box.group.index);
    if (event.key !== " ") return;
    event.preventDefault();
    toggle(box.group.index);
    canvas.select(`.hull[data-group="${box.group.index}"]`).node().focus();
  }

  function drawOps(box) {
    const body = d3.select(this).append("g").attr("transform", "translate(12,32)");
    const line = d3.line((p) => p.x, (p) => p.y).curve(d3.curveBasis);
    body.selectAll("path").data(box.ops.edges).join("path").attr("class", "inner").attr("d", (e) => line(e.points))
      .append("title").text((e) => `${data.tensors[e.tensor].name}: stays on chip`);
    const op = body.selectAll("g").data(box.ops.nodes).join("g").attr("class", "op").attr("data-op", (n) => n.op)
      .attr("transform", (n) => `translate(${n.x - n.width / 2},${n.y - n.height / 2})`);
    op.append("rect").attr("rx", 5).attr("width", OP.width).attr("height", OP.height);
    op.append("text").attr("class", "kind").attr("x", 8).attr("y", 15).text((n) => tail(data.ops[n.op].kind, 18));
    op.append("text").attr("class", "name").attr("x", 8).attr("y", 29).text((n) => tail(data.ops[n.op].name, 18));
    op.append("title").text((n) => `${data.ops[n.op].name}\n${data.ops[n.op].kind}, ${data.ops[n.op].shape}`);
  }

  /** All of it; or, where that could not be read and it should be, its beginning. */
  function fit(readable) {
    const { width, height, vertical, boxes } = state.drawing;
    const room = { width: Math.max(200, figure.node().clientWidth), height: figure.node().clientHeight };
    const whole = Math.min((room.width - 48) / width, (room.height - 48) / height, 1.2);
    const across = vertical ? (room.width - 48) / width : (room.height - 48) / height;
    const k = readable && whole < OVERVIEW ? Math.max(whole, Math.min(Math.max(across, FAR), 0.9)) : whole;
    const place = (size, space, first) => (k * size <= space - 48 ? (space - k * size) / 2 : first);
    const x = place(width, room.width, vertical ? room.width / 2 - k * boxes[0].x : 24);
    const y = place(height, room.height, vertical ? 24 : room.height / 2 - k * boxes[0].y);
    svg.call(zoom.transform, d3.zoomIdentity.translate(x, y).scale(k));
  }

  function centre(index) {
    const box = state.drawing.boxes[index];
    const k = Math.max(d3.zoomTransform(svg.node()).k, 0.7);
    const room = figure.node();
    const at = d3.zoomIdentity.translate(room.clientWidth / 2 - k * box.x, room.clientHeight / 2 - k * box.y).scale(k);
    svg.call(zoom.transform, at);
  }

  function toggle(index) {
    if (!state.open.delete(index)) state.open.add(index);
    drawNetwork();
    centre(index);
    nameToggle();
  }

  function toggleAll() {
    const all = state.open.size < data.groups.length;
    state.open = new Set(all ? data.groups.map((g) => g.index) : []);
    drawNetwork();
    fit(false);
    nameToggle();
  }

  function nameToggle() {
    d3.select("#toggle").text(state.open.size < data.groups.length ? "Show ops" : "Hide ops");
  }

  // Selection and search ----------------------------------------------------------------------

  function select(index) {
    state.selected = index;
    showSelection();
    drawDetail(data.groups[index]);
  }

  function showSelection() {
    const chosen = `g${state.selected}`;
    canvas.selectAll(".hull").classed("selected", (b) => b.id === chosen);
    canvas.selectAll(".edge").classed("near", (e) => e.from === chosen || e.to === chosen);
    d3.selectAll(".band").classed("selected", (g) => g.index === state.selected);
    d3.selectAll(".groups tbody tr").classed("selected", function () {
      return Number(this.dataset.group) === state.selected;
    });
  }

  function search(text) {
    const wanted = text.trim().toLowerCase();
    const has = (name) => name.toLowerCase().includes(wanted);
    const ops = new Set();
    if (wanted) {
      data.ops.forEach((op, i) => { if (has(op.name) || has(op.kind) || op.members.some(has)) ops.add(i); });
      data.tensors.filter((t) => has(t.name)).forEach((t) => {
        const op = t.source < 0 ? t.targets.find((reader) => reader >= 0) : t.source;
        if (op !== undefined) ops.add(op);
      });
    }
    state.hits = [...ops].sort((a, b) => a - b);
    state.hit = -1;
    d3.select("#found").text(wanted ? plural(ops.size, "op") : "");
    showHits();
  }

  function showHits() {
    const ops = new Set(state.hits), groups = new Set(state.hits.map(groupOf));
    svg.classed("searching", ops.size > 0);
    canvas.selectAll(".hull").classed("hit", (b) => groups.has(b.group.index));
    canvas.selectAll(".op").classed("hit", (n) => ops.has(n.op));
  }

  function nextHit() {
    if (!state.hits.length) return;
    state.hit = (state.hit + 1) % state.hits.length;
    const group = groupOf(state.hits[state.hit]);
    d3.select("#found").text(`${state.hit + 1} of ${state.hits.length}`);
    select(group);
    centre(group);
  }

  // Detail of a group -------------------------------------------------------------------------

  function drawDetail(group) {
    const panel = d3.select("#detail").text("");
    const title = panel.append("h3").attr("class", "title");
    title.append("span").text(`Group ${group.index}`);
    title.append("span").attr("class", "tag").text(`${group.scheme}, ${plural(group.ops.length, "op")}`);
    panel.append("p").text(group.summary);
    panel.append("h4").text("What fills the buffer");
    drawFill(panel, group);
    drawParts(panel, group.parts);
    if (group.stops) {
      panel.append("h4").text("Why it stops here");
      panel.append("p").text(group.stops);
    }
    if (group.offers.length) drawOffers(panel, group.offers);
    panel.append("h4").text(`What crosses to DRAM: ${bytes(dram(group))}`);
    drawCrossings(panel, group);
    drawMembers(panel, group);
  }

  function drawFill(panel, group) {
    const width = 350, height = 22;
    const need = group.offers.length ? data.capacity_bytes + group.offers[0].extra_bytes : 0;
    const most = need && need < 2 * data.capacity_bytes ? need : data.capacity_bytes * 1.06;
    const x = d3.scaleLinear([0, most], [0, width]);
    const chart = panel.append("svg").attr("viewBox", `0 0 ${width} ${height + 22}`).attr("width", "100%")
      .attr("role", "img").attr("aria-label", `${bytes(group.buffer_bytes)} of ${bytes(data.capacity_bytes)}`);
    chart.append("rect").attr("class", "track-back").attr("width", x(data.capacity_bytes)).attr("height", height);
    if (most === need) {
      chart.append("rect").attr("class", "ghost").attr("x", x(data.capacity_bytes) + 0.5).attr("y", 0.5)
        .attr("width", Math.max(0, width - x(data.capacity_bytes) - 1)).attr("height", height - 1);
    }
    let from = 0;
    group.parts.forEach((part) => {
      chart.append("rect").attr("class", `fill-${part.kind}`).attr("x", x(from)).attr("height", height)
        .attr("width", Math.max(0.4, x(part.nbytes) - (x(part.nbytes) > 3 ? 0.8 : 0)))
        .append("title").text(`${part.name}: ${bytes(part.nbytes)}`);
      from += part.nbytes;
    });
    const edge = x(data.capacity_bytes);
    chart.append("line").attr("class", "capacity").attr("x1", edge).attr("x2", edge).attr("y2", height + 6);
    chart.append("text").attr("class", "label").attr("y", height + 16).text(bytes(group.buffer_bytes));
    chart.append("text").attr("class", "label").attr("x", Math.min(edge, width)).attr("y", height + 16)
      .attr("text-anchor", "end").text(`capacity ${bytes(data.capacity_bytes)}`);
  }

  function drawParts(panel, parts) {
    const sorted = [...parts].sort((a, b) => b.nbytes - a.nbytes);
    partTable(panel, sorted.slice(0, LISTED));
    if (sorted.length > LISTED) {
      const rest = panel.append("details");
      rest.append("summary").text(`${sorted.length - LISTED} more`);
      partTable(rest, sorted.slice(LISTED));
    }
  }

  function partTable(parent, parts) {
    const row = parent.append("table").append("tbody").selectAll("tr").data(parts).join("tr");
    row.append("td").attr("class", "mark").append("span").attr("class", (p) => `swatch back-${p.kind}`);
    nameCell(row, (p) => p.name, (p) => p.detail);
    row.append("td").attr("class", "n").text((p) => bytes(p.nbytes));
  }

  function nameCell(row, name, detail) {
    const cell = row.append("th").attr("scope", "row");
    cell.append("span").text(name);
    cell.filter((d) => detail(d)).append("small").text(detail);
  }

  function drawCrossings(panel, group) {
    const row = panel.append("table").append("tbody").selectAll("tr").data(group.crossings).join("tr");
    row.append("td").attr("class", (c) => `mark ${c.direction === "read" ? "in" : "out"}`)
      .attr("title", (c) => (c.direction === "read" ? "read from DRAM" : "written to DRAM"))
      .text((c) => (c.direction === "read" ? "↓" : "↑"));
    nameCell(row, (c) => c.name, (c) => `${c.direction}, ${c.detail}`);
    row.append("td").attr("class", "n").text((c) => bytes(c.nbytes));
  }

  function drawOffers(panel, offers) {
    panel.append("h4").text("What more buffer would buy");
    const first = offers[0].extra_bytes;
    const least = first <= 1024 ? "The next KiB is enough:" : `The next KiB alone buys nothing here; ${kib(first)} more do:`;
    panel.append("p").text(least);
    const row = panel.append("table").append("tbody").selectAll("tr").data(offers).join("tr");
    nameCell(row, (o) => o.change, (o) => `${bytes(o.extra_bytes)} more buffer`);
    row.append("td").attr("class", "n").text((o) => `− ${bytes(o.saved_bytes)}`);
  }

  function drawMembers(panel, group) {
    const list = panel.append("details").attr("open", group.ops.length <= LISTED ? "" : null);
    list.append("summary").text(plural(group.ops.length, "op"));
    const item = list.append("ul").attr("class", "plain").selectAll("li").data(group.ops).join("li");
    item.append("span").text((op) => data.ops[op].name);
    item.append("small").text((op) => ` ${data.ops[op].kind}, ${data.ops[op].shape}`);
    item.filter((op) => data.ops[op].members.length).append("small").text((op) => `, of ${data.ops[op].members.join(", ")}`);
  }

  // Legend ------------------------------------------------------------------------------------

  function drawLegend() {
    const legend = d3.select("#legend");
    const edge = (text, kind, size) => {
      const item = legend.append("span");
      item.append("svg").attr("width", 26).attr("height", 16).append("line").attr("class", `edge ${kind}`)
        .attr("x2", 26).attr("y1", 8).attr("y2", 8).attr("stroke-width", size);
      item.append("span").text(text);
    };
    edge(`spilled: written by one group, read by another; this thick is ${bytes(thickest)}`, "", WIDEST);
    edge("network input or output", "io", 3);
    legend.append("span").text("dashed hull: one op in tiles");
    KINDS.forEach((kind) => {
      const item = legend.append("span");
      item.append("span").attr("class", `swatch back-${kind}`);
      item.append("span").text(KIND_NAMES[kind]);
    });
    legend.append("span").attr("class", "hint").text("click a group to take it apart, double-click to fold it");
  }

  // Start -------------------------------------------------------------------------------------

  d3.select("#toggle").on("click", toggleAll);
  d3.select("#fit").on("click", () => fit(false));
  d3.select("#zoom-in").on("click", () => svg.call(zoom.scaleBy, 1.4));
  d3.select("#zoom-out").on("click", () => svg.call(zoom.scaleBy, 1 / 1.4));
  d3.select("#search").on("input", function () { search(this.value); })
    .on("keydown", (event) => { if (event.key === "Enter") nextHit(); });
  d3.selectAll(".groups tbody tr").on("click", function () {
    select(Number(this.dataset.group));
    centre(state.selected);
    document.getElementById("h-network").scrollIntoView({ block: "start" });
  });

  const chosen = (index) => { select(index); centre(index); };
  charts.drawRivals(data);
  drawLegend();
  charts.drawTimeline(data, chosen);
  drawNetwork();
  fit(true);
  nameToggle();
  select(d3.greatest(data.groups, (g) => g.ops.length).index);

  window.addEventListener("beforeprint", () => fit(false));
  window.addEventListener("afterprint", () => fit(true));

  let drawnAt = figure.node().clientWidth;
  new ResizeObserver(() => {
    const width = figure.node().clientWidth;
    if (width === drawnAt) return;
    drawnAt = width;
    charts.drawTimeline(data, chosen);
    drawNetwork();
    fit(true);
  }).observe(figure.node());
})();
