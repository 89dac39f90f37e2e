// Draws the charts that the page describes.
// Vega interprets its expressions (ast), so the page's policy need not allow eval.
const draw = async () => {
  const { specs, charts } = JSON.parse(document.getElementById("chart-data").textContent);
  const tooltip = { disableDefaultStyle: true, theme: "page" };
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip };
  for (const { element, spec, rows } of charts) {
    await vegaEmbed(document.getElementById(element), { ...specs[spec], datasets: rows }, options);
  }
  document.documentElement.dataset.chartsDrawn = charts.length;
};
draw();
