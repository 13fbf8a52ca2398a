"use strict";
// Draws the time lines of the layouts.
(() => {
  const { axis, config, keepDrawn, layout, narrow, resolve } = plotting;
  const figures = JSON.parse(document.getElementById("timelines").textContent);

  function draw() {
    figures.forEach((figure, place) => {
      const xaxis = axis("milliseconds from the beginning of the step", { rangemode: "tozero", nticks: narrow.matches ? 5 : 12 });
      const own = { ...figure.layout, xaxis, height: figure.height };
      Plotly.react(`timeline-${place}`, resolve(figure.data), layout(own), config);
    });
  }

  keepDrawn(draw);
})();
