"use strict";
// Draws the figures of the page. Colours come from the style sheet, x from the axis that is chosen.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  function resolve(value) {
    const style = getComputedStyle(document.documentElement);
    const text = JSON.stringify(value).replace(/var\((--[a-z-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    return JSON.parse(text);
  }

  function layoutOf(figure, axis, name) {
    const axisStyle = {
      gridcolor: "var(--grid)", zeroline: false, linecolor: "var(--line)", automargin: true,
      tickfont: { color: "var(--muted)", size: 12 },
    };
    const title = (text) => ({ text, font: { color: "var(--muted)", size: 12 }, standoff: 8 });
    const format = axis === "tokens" ? "~s" : ",~f";
    const { layout } = figure;
    return resolve({
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily.replace(/"/g, "'"), color: "var(--text)" },
      margin: { l: 8, r: 8, t: name === "loss" ? 36 : 12, b: 8 },
      hovermode: "x unified",
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--text)" } },
      showlegend: name === "loss",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      dragmode: narrow.matches ? false : "zoom",
      xaxis: { ...axisStyle, title: title(figure.axes[axis]), tickformat: format, hoverformat: axis === "tokens" ? ".3s" : ",.5~g", nticks: name === "loss" && !narrow.matches ? 10 : 5, tickangle: 0, range: [0, figure.data[0].progress[axis].at(-1)] },
      yaxis: { ...axisStyle, ...layout.yaxis, title: title(layout.yaxis.title.text) },
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
    dark.addEventListener("change", draw);
    narrow.addEventListener("change", draw);
    draw();
  }
})();
