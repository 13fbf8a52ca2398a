"use strict";
// Draws the first and a later step side by side: bytes by category, stacked, over the operators of the step.
(() => {
  const { axis, config, keepDrawn, layout, resolve } = plotting;
  const { titles, first, later } = JSON.parse(document.getElementById("memory").textContent);
  const names = titles.map(([name]) => name);
  const totals = ({ places, bytes }) => places.map((_, at) => names.reduce((sum, name) => sum + bytes[name][at], 0));
  const greatest = Math.max(...totals(first), ...totals(later));

  function traces({ places, bytes }) {
    const areas = titles.map(([name, title], place) => ({
      type: "scatter", mode: "lines", name: title, stackgroup: "all", x: places, y: bytes[name],
      line: { width: 0.5, color: `var(--hue-${place})`, shape: "hv" }, fillcolor: `var(--hue-${place})`,
      hovertemplate: "%{y:.3s}B",
    }));
    const total = {
      type: "scatter", mode: "lines", name: "all", x: places, y: totals({ places, bytes }), showlegend: false,
      line: { width: 0, color: "var(--text)" }, hovertemplate: "%{y:.3s}B",
    };
    return resolve([...areas, total]);
  }

  // A dotted line where a phase begins, and its name above it; short stretches go without, but for the last one.
  function marks({ stretches }) {
    const length = stretches.at(-1).end;
    const lines = stretches.slice(1).map(({ begin }) => ({
      type: "line", x0: begin, x1: begin, yref: "paper", y0: 0, y1: 1,
      line: { color: "var(--text)", width: 1, dash: "dot" },
    }));
    const written = stretches.filter(({ begin, end }) => (end - begin) / length > 0.12 || end === length);
    const annotations = written.map(({ phase, begin, end }) => ({
      text: phase, yref: "paper", y: 1, yanchor: "bottom", showarrow: false,
      ...(end === length ? { x: end, xanchor: "right" } : { x: (begin + end) / 2 }),
      font: { size: 12, color: "var(--muted)" },
    }));
    return { shapes: lines, annotations };
  }

  function draw() {
    for (const [name, step] of Object.entries({ first, later })) {
      const own = {
        ...marks(step), margin: { l: 8, r: 8, t: 24, b: 8 }, hovermode: "x unified", showlegend: true,
        legend: { orientation: "h", x: 0, y: -0.22, yanchor: "top", font: { size: 12 } },
        xaxis: axis("operators of the step", { tickformat: ",d", nticks: 6, range: [0, step.stretches.at(-1).end] }),
        yaxis: axis("", { tickformat: "~s", ticksuffix: "B", range: [0, 1.04 * greatest] }),
      };
      Plotly.react(`chart-${name}`, traces(step), layout(own), config);
    }
  }

  keepDrawn(draw);
})();
