"use strict";
// Draws the charts of an answer: all but colours, fonts and the window's width was decided when the page was written.
(() => {
  const { axis, config, keepDrawn, layout, narrow, resolve } = plotting;
  const figures = JSON.parse(document.getElementById("charts-data").textContent);

  function axisOf({ title, ...own }) {
    return axis(title, { nticks: narrow.matches ? 5 : 10, tickangle: 0, ...own });
  }

  function draw() {
    figures.forEach(({ data, height, layout: { xaxis, yaxis, ...own } }, place) => {
      const element = document.getElementById(`chart-${place}`);
      // In narrow windows each name of the legend takes a line of its own, and values beside bars need room.
      const lines = narrow.matches && own.showlegend ? data.length : 0;
      element.style.height = `${height + 20 * lines}px`;
      const whole = layout({
        ...own,
        margin: { l: 8, r: narrow.matches && own.barmode ? 36 : 8, t: 12, b: 8 },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal", font: { size: 12 } },
        hovermode: "closest",
        xaxis: axisOf(xaxis),
        yaxis: axisOf(yaxis),
      });
      Plotly.react(element, resolve(data), whole, config);
    });
  }

  keepDrawn(draw);
})();
