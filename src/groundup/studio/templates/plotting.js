"use strict";
// What our charts have in common: fonts, axes, and colours that come from the style sheet.
const plotting = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
  };

  // The same value with every var(--name) replaced by what the style sheet says now.
  function resolve(value) {
    const style = getComputedStyle(document.documentElement);
    const text = JSON.stringify(value).replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    return JSON.parse(text);
  }

  function axis(title, own) {
    return {
      gridcolor: "var(--grid)", zeroline: false, linecolor: "var(--line)", automargin: true,
      tickfont: { color: "var(--muted)", size: 12 },
      ...own,
      title: { text: title, font: { color: "var(--muted)", size: 12 }, standoff: 8 },
    };
  }

  function layout(own) {
    return resolve({
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily.replace(/"/g, "'"), color: "var(--text)" },
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--text)" } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      dragmode: narrow.matches ? false : "zoom",
      ...own,
    });
  }

  // Draws now, and again whenever colours or the width of the window call for it.
  function keepDrawn(draw) {
    dark.addEventListener("change", draw);
    narrow.addEventListener("change", draw);
    draw();
  }

  return { axis, config, keepDrawn, layout, narrow, resolve };
})();
