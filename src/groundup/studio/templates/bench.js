"use strict";
// Draws the points of a sweep: sorted, and against memory; by the figure and the setting that are chosen.
(() => {
  const { axis, config, keepDrawn, layout, resolve } = plotting;
  const { points, settings } = JSON.parse(document.getElementById("sweep").textContent);
  const measures = {
    tokens_per_second: { title: "tokens per second", format: "~s", hover: ".3s" },
    utilisation: { title: "share of the measured peak", format: ".0%", hover: ".1%" },
  };
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

  // A trace for each value of the setting that colours the points; the recipe's own point has a ring around it.
  function traces(field, x, y, hover) {
    const { values } = settings.find((setting) => setting.field === field);
    const marks = values.map((value, place) => {
      const members = points.map((point, rank) => ({ point, rank })).filter(({ point }) => point[field] === value);
      return {
        type: "scatter", mode: "markers", name: `${value}`,
        x: members.map(({ point, rank }) => x(point, rank)),
        y: members.map(({ point }) => y(point)),
        text: members.map(({ point }) => point.name),
        hovertemplate: `%{text}<br>${hover}<extra></extra>`,
        marker: { color: `var(--hue-${place % 6})`, size: 9, symbol: place < 6 ? "circle" : "diamond", line: { color: "var(--card)", width: 1 } },
      };
    });
    const own = points.map((point, rank) => ({ point, rank })).filter(({ point }) => point.own);
    const ring = {
      type: "scatter", mode: "markers", name: "the recipe as it is", hoverinfo: "skip",
      x: own.map(({ point, rank }) => x(point, rank)), y: own.map(({ point }) => y(point)),
      marker: { symbol: "circle-open", size: 17, color: "var(--text)", line: { width: 2 } },
    };
    return resolve(own.length ? [...marks, ring] : marks);
  }

  function draw() {
    const measure = chosen("measure");
    const { title, format, hover } = measures[measure];
    const field = chosen("colour");
    const y = (point) => point[measure];
    const rank = new Map([...points].sort((a, b) => y(b) - y(a)).map((point, place) => [point, place + 1]));
    const yaxis = axis(title, { tickformat: format, rangemode: "tozero" });
    const common = { margin: { l: 8, r: 8, t: 60, b: 8 }, hovermode: "closest", showlegend: true, yaxis };
    const figures = {
      sorted: {
        traces: traces(field, (point) => rank.get(point), y, `%{y:${hover}} ${title}`),
        xaxis: axis("place", { rangemode: "tozero", tickformat: ",d" }),
      },
      memory: {
        traces: traces(field, (point) => point.peak_bytes, y, `%{y:${hover}} ${title}, %{x:.3s}B`),
        xaxis: axis("peak memory", { tickformat: "~s", ticksuffix: "B", nticks: 8, tickangle: 0 }),
      },
    };
    for (const [name, figure] of Object.entries(figures)) {
      Plotly.react(`chart-${name}`, figure.traces, layout({ ...common, xaxis: figure.xaxis }), config);
    }
  }

  if (points.length) {
    for (const chooser of document.querySelectorAll("fieldset.switch")) {
      chooser.hidden = false;
      chooser.addEventListener("change", draw);
    }
    keepDrawn(draw);
  }
})();
