"use strict";
// The charts that need no selection of their own, and how bytes are written.
const charts = (() => {
  const KINDS = ["rows", "weights", "accumulators"];
  const KIND_NAMES = { rows: "tensor rows and tiles", weights: "weights and biases", accumulators: "accumulators" };

  const bytes = (n) => `${d3.format(",")(n)} B`;
  const kib = (n) => (n % 1024 ? `${d3.format(",.1f")(n / 1024)} KiB` : `${d3.format(",")(n / 1024)} KiB`);
  const dram = (group) => group.read_bytes + group.write_bytes;

  function drawRivals(data) {
    const most = d3.max(data.rivals, (r) => r.dram_bytes);
    const row = d3.select("#rivals").selectAll("div").data(data.rivals).join("div").attr("class", (r) => `rival ${r.role}`);
    const name = row.append("div").attr("class", "name");
    name.append("span").text((r) => r.name);
    name.append("small").text((r) => r.detail);
    const track = row.append("div").attr("class", "track");
    track.append("div").attr("class", "bar").style("width", (r) => `calc((100% - 9rem) * ${r.dram_bytes / most})`);
    track.append("div").attr("class", "value").text((r) => bytes(r.dram_bytes));
  }

  /** Every point of the timeline with its place on the axis of bytes moved so far. */
  function moments(data) {
    const found = [];
    let from = 0;
    data.groups.forEach((g) => {
      const step = dram(g) / Math.max(1, g.timeline.length);
      g.timeline.forEach((held, i) => found.push({ from: from + i * step, to: from + (i + 1) * step, held }));
      Object.assign(g, { from, to: from + dram(g) });
      from = g.to;
    });
    return found;
  }

  function drawTimeline(data, chosen) {
    const holder = d3.select("#timeline");
    const width = Math.max(200, holder.node().clientWidth), height = width < 500 ? 190 : 240;
    const edge = { left: 62, right: 8, top: 18, bottom: 26 };
    const x = d3.scaleLinear([0, data.dram_bytes], [edge.left, width - edge.right]);
    const y = d3.scaleLinear([0, data.capacity_bytes * 1.02], [height - edge.bottom, edge.top]);
    const chart = holder.text("").append("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("height", height)
      .attr("role", "img").attr("aria-label", "Bytes in the buffer over the schedule");
    drawAxes(chart, data, { x, y, width, height, edge });
    drawStack(chart, data, x, y);
    chart.append("path").attr("class", "reserved").attr("d", d3.line()(data.groups.flatMap((g) =>
      [[x(g.from), y(g.buffer_bytes)], [x(g.to), y(g.buffer_bytes)]])));
    chart.append("line").attr("class", "capacity").attr("x1", edge.left).attr("x2", width - edge.right)
      .attr("y1", y(data.capacity_bytes)).attr("y2", y(data.capacity_bytes));
    chart.append("g").selectAll("rect").data(data.groups).join("rect").attr("class", "band")
      .attr("x", (g) => x(g.from)).attr("width", (g) => x(g.to) - x(g.from))
      .attr("y", edge.top).attr("height", height - edge.bottom - edge.top)
      .on("click", (event, g) => chosen(g.index))
      .append("title").text((g) => `group ${g.index}: ${bytes(dram(g))} moved, ${bytes(g.buffer_bytes)} reserved`);
  }

  function drawAxes(chart, data, { x, y, width, height, edge }) {
    const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => part * data.capacity_bytes);
    chart.append("g").attr("class", "axis").attr("transform", `translate(${edge.left},0)`)
      .call(d3.axisLeft(y).tickValues(marks).tickFormat(kib).tickSize(-(width - edge.left - edge.right)).tickPadding(8))
      .call((axis) => axis.select(".domain").remove());
    chart.append("g").attr("class", "axis").attr("transform", `translate(0,${height - edge.bottom})`)
      .call(d3.axisBottom(x).ticks(width < 500 ? 3 : 8).tickFormat((n) => `${d3.format("~s")(n).replace(/[a-zA-Z]?$/, " $&B")}`).tickSizeOuter(0))
      .call((axis) => axis.select(".domain").remove());
  }

  function drawStack(chart, data, x, y) {
    const all = moments(data);
    KINDS.slice().reverse().forEach((kind, place) => {
      const upTo = KINDS.length - place;
      const corners = all.flatMap((m) => {
        const top = d3.sum(m.held.slice(0, upTo)), bottom = d3.sum(m.held.slice(0, upTo - 1));
        return [{ at: m.from, top, bottom }, { at: m.to, top, bottom }];
      });
      chart.append("path").attr("class", `fill-${kind}`)
        .attr("d", d3.area((c) => x(c.at), (c) => y(c.bottom), (c) => y(c.top))(corners));
    });
  }

  return { bytes, kib, dram, KINDS, KIND_NAMES, drawRivals, drawTimeline };
})();
