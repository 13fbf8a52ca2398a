"use strict";
// Draws the charts of an answer: all but colours, fonts and the window's width was decided when the page was written.
(() => {
  const { axis, config, keepDrawn, layout, narrow, resolve } = plotting;
  const figures = JSON.parse(document.getElementById("charts-data").textContent);

  function axisOf({ title, ...own }) {
    return axis(title, { nticks: narrow.matches ? 5 : 10, tickangle: 0, ...own });
  }

  function draw() {
    figures.forEach((figure, place) => {
      const { xaxis, yaxis, ...own } = figure.layout;
      const whole = layout({
        ...own, margin: { l: 8, r: 8, t: 12, b: 8 }, hovermode: "closest", xaxis: axisOf(xaxis), yaxis: axisOf(yaxis),
      });
      Plotly.react(`chart-${place}`, resolve(figure.data), whole, config);
    });
  }

  keepDrawn(draw);
})();
