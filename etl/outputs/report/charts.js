// The charts as Vega-Lite specifications; chart_data.py has their rows. Drawn with vega.js.
//
// Colors are variables of the style sheet, so that charts follow dark mode and printing. Scales are UTC; otherwise bars
// would move with the reader's time zone. No specification contains a name from the data, so none can become markup.
(async () => {
  const { queueColors, heatColors, minDaysByWeek, unit, charts } = JSON.parse(
    document.getElementById("chart-data").textContent,
  );
  const range = (first, last) => Array.from({ length: last - first + 1 }, (_, place) => first + place);
  const tip = (field, type, title, format) => ({ field, type, title, ...(format && { format }) });

  const config = {
    aria: false, // the element around a chart describes it; its single marks would say nothing
    background: "transparent",
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    padding: 0,
    view: { stroke: null },
    axis: {
      domain: false, ticks: false, grid: false, title: null,
      titleColor: "var(--muted)", titleFontSize: 11, titleFontWeight: "normal", titlePadding: 8,
      labelColor: "var(--muted)", labelFontSize: 11, labelPadding: 6, gridColor: "var(--rule)",
    },
    axisX: { domain: true, domainColor: "var(--rule)", ticks: true, tickColor: "var(--rule)", tickSize: 4, labelPadding: 3 },
  };
  // A height includes axes and labels, so that charts side by side line up.
  const frame = { width: "container", autosize: { type: "fit", contains: "padding" }, config };

  const dollars = "$,.4~r";
  const color = {
    field: "color", type: "ordinal", legend: null,
    scale: { domain: range(0, queueColors.length - 1), range: queueColors },
  };

  // Days such as 5 Mar; for a long period, months such as Mar 2026.
  const day = "(utchours(datum.value) ? '' : '%-d %b')";
  const month = "(utcdate(datum.value) > 1 ? '' : '%b %Y')";
  const dateAxis = (tickCount) => ({
    labelFlush: true, labelOverlap: "greedy", labelSeparation: 10, tickCount,
    labelExpr: `utcFormat(datum.value, span(domain('x')) < ${minDaysByWeek} * 864e5 ? ${day} : ${month})`,
  });
  const span = {
    x: { field: "from", type: "temporal", bin: "binned", scale: { type: "utc" }, axis: dateAxis(8) },
    x2: { field: "to" },
  };

  const specs = {
    // Stacked bars. The days behind them: the whole period, so that the axis shows all of it, and each day that is
    // missing or failed. A line marks the biggest change of a queue.
    spend: {
      height: 290,
      padding: { top: 16 },
      layer: [
        {
          data: { name: "days" },
          mark: { type: "rect" },
          encoding: {
            ...span,
            fill: { field: "fill", type: "nominal", scale: null },
            tooltip: { condition: { test: "datum.label", field: "label", type: "nominal" }, value: null },
          },
        },
        {
          data: { name: "spend" },
          mark: { type: "bar", binSpacing: 1 },
          encoding: {
            ...span,
            y: {
              field: "money", type: "quantitative", stack: "zero",
              axis: { grid: true, tickCount: 5, format: dollars, title: `USD per ${unit}` },
            },
            color,
            order: { field: "color", type: "quantitative", sort: "descending" },
            opacity: { condition: { test: "datum.is_final", value: 1 }, value: 0.55 },
            tooltip: [
              tip("label", "nominal", "title"),
              tip("queue", "nominal", "queue"),
              tip("money", "quantitative", "USD", "$,.2f"),
              tip("volume", "quantitative", "tasks", ","),
            ],
          },
        },
        {
          data: { name: "changes" },
          mark: { type: "rule", strokeDash: [3, 3], color: "var(--ink)" },
          encoding: { x: { field: "from", type: "temporal", scale: { type: "utc" } } },
        },
        {
          data: { name: "changes" },
          mark: { type: "text", baseline: "bottom", dy: -3, fontSize: 11, color: "var(--ink)", limit: 220 },
          encoding: {
            x: { field: "from", type: "temporal", scale: { type: "utc" } },
            y: { value: 0 },
            text: { field: "label", type: "nominal" },
          },
        },
      ],
    },
    // A line for one queue, from zero, so that a small change looks small; a null price is a gap.
    price: {
      height: 116,
      data: { name: "price" },
      mark: { type: "line", strokeWidth: 1.75, point: { size: 9, filled: true } },
      encoding: {
        x: { field: "from", type: "temporal", scale: { type: "utc" }, axis: dateAxis(3) },
        y: {
          field: "price", type: "quantitative", scale: { zero: true, nice: true },
          axis: { grid: true, tickCount: 2, format: dollars, minExtent: 44 },
        },
        color,
        tooltip: [tip("label", "nominal", "title"), tip("price", "quantitative", "USD per 1000", "$,.4f")],
      },
    },
    // A heat map of the hours of the week.
    week: {
      height: 196,
      data: { name: "hours" },
      mark: { type: "rect", xOffset: 0.5, x2Offset: -0.5, yOffset: 0.5, y2Offset: -0.5, cornerRadius: 1 },
      encoding: {
        x: {
          field: "hour", type: "ordinal", scale: { domain: range(0, 23) },
          axis: { labelAngle: 0, values: [0, 3, 6, 9, 12, 15, 18, 21], labelExpr: "pad(datum.value, 2, '0', 'left')" },
        },
        y: {
          field: "weekday", type: "ordinal", scale: { domain: range(1, 7) },
          axis: { labelExpr: "['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value - 1]" },
        },
        color: { field: "money", type: "quantitative", legend: null, scale: { type: "quantize", range: heatColors } },
        tooltip: [
          tip("label", "nominal", "title"),
          tip("money", "quantitative", "USD per hour", "$,.4f"),
          tip("volume", "quantitative", "tasks per hour", ",.1f"),
          tip("hours", "quantitative", "hours averaged"),
        ],
      },
    },
  };

  // Vega interprets its expressions (ast), so the page's policy need not allow eval.
  const tooltip = { disableDefaultStyle: true, theme: "page" };
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip };
  for (const { element, spec, rows } of charts) {
    await vegaEmbed(document.getElementById(element), { ...frame, ...specs[spec], datasets: rows }, options);
  }
  document.documentElement.dataset.chartsDrawn = charts.length;
})();
