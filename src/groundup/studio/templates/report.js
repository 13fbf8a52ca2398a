"use strict";
// Draws the figures of the report. Their x comes from the axis that is chosen.
(() => {
  const { axis: axisOf, config, keepDrawn, layout, narrow, resolve } = plotting;
  const figures = JSON.parse(document.getElementById("figures").textContent);

  function layoutOf(figure, axis, name) {
    const format = axis === "tokens" ? "~s" : ",~f";
    const own = figure.layout;
    return layout({
      ...own,
      margin: { l: 8, r: 8, t: name === "loss" ? 36 : 12, b: 8 },
      hovermode: "x unified",
      showlegend: name === "loss",
      xaxis: axisOf(figure.axes[axis], { tickformat: format, hoverformat: axis === "tokens" ? ".3s" : ",.5~g", nticks: name === "loss" && !narrow.matches ? 10 : 5, tickangle: 0, range: [0, figure.data[0].progress[axis].at(-1)] }),
      yaxis: axisOf(own.yaxis.title.text, own.yaxis),
    });
  }

  function draw() {
    const axis = document.querySelector("input[name=axis]:checked").value;
    for (const [name, figure] of Object.entries(figures)) {
      const traces = figure.data.map(({ progress, ...trace }) => resolve({ ...trace, x: progress[axis] }));
      Plotly.react(`chart-${name}`, traces, layoutOf(figure, axis, name), config);
    }
  }

  if (Object.keys(figures).length) {
    const chooser = document.querySelector("fieldset.switch");
    chooser.hidden = false;
    chooser.addEventListener("change", draw);
    keepDrawn(draw);
  }
})();
