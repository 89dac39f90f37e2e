// Draws what the page describes. Expressions are interpreted, not compiled, so that the page's policy need not allow eval.
const draw = async () => {
  const told = JSON.parse(document.getElementById("drawn").textContent);
  const tooltip = { disableDefaultStyle: true, theme: "page" };
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip };
  for (const { element, spec, rows } of told.charts) {
    await vegaEmbed(document.getElementById(element), { ...told.specs[spec], datasets: rows }, options);
  }
  document.documentElement.dataset.drawn = told.charts.length;
};
draw();
