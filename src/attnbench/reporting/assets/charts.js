// Charts are plotly's; its script is unpacked when the first one is asked for.

let loading = null;

function loadPlotly() {
  loading ??= inflate(byId("plotly").textContent).then((bytes) => {
    document.head.append(el("script", {}, readText(bytes)));
    return window.Plotly;
  });
  return loading;
}

// Okabe and Ito 2008, distinguishable for color-blind readers, without black and yellow, which are hard to see on dark or light paper.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#8A8A8A"];
const COLOURS_ON_DARK = ["#4FA8DC", "#F0803C", "#2CBF96", "#DE9CC2", "#F0B840", "#8CCBF2", "#B39AD6", "#ABABAB"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];

const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** How the curve of the n-th run, or setting, looks. */
function look(place) {
  const colors = dark.matches ? COLOURS_ON_DARK : COLOURS;
  return { color: colors[place % colors.length], dash: DASHES[Math.floor(place / colors.length) % DASHES.length] };
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** What plotly would read as tags or entities, as the text that it is. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A layout in the page's colors; `more` is plotly's own. */
function layout(more) {
  const grid = { gridcolor: variable("--line"), zerolinecolor: variable("--line"), linecolor: variable("--line"), automargin: true };
  const { xaxis, yaxis, ...rest } = more;
  return {
    font: { family: variable("--font"), size: 12, color: variable("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 8, b: 40 },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { font: { family: variable("--font") }, align: "left", namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--quiet"), activecolor: variable("--ink") },
    ...rest,
    xaxis: { ...grid, ...xaxis },
    yaxis: { ...grid, ...yaxis },
  };
}

// A chart that is given another width takes it: plotly itself looks at the window only.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) if (target.data !== undefined && target.isConnected) window.Plotly.Plots.resize(target);
});

const CONFIG = { displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

/** Draw into `host`; `label` says in words what is seen there. */
async function draw(host, label, traces, more) {
  const plotly = await loadPlotly();
  if (!host.isConnected) return;
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", label);
  await plotly.react(host, traces, layout(more), CONFIG);
  sizes.observe(host);
}

/** Let go of charts that are not shown any more. */
function forget(host) {
  if (window.Plotly === undefined) return;
  for (const chart of host.querySelectorAll(".js-plotly-plot")) {
    sizes.unobserve(chart);
    window.Plotly.purge(chart);
  }
}
