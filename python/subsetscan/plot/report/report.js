// What the page does: unpack content and libraries, draw, and redraw where the rate or the space is another.
const element = (id) => document.getElementById(id);

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).text();
}

async function library(id) {
  const url = URL.createObjectURL(new Blob([await unpacked(id)], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

const content = JSON.parse(await unpacked("data"));
const specifications = JSON.parse(await unpacked("specifications"));
const CLEAN = "clean";
const calibrated = content.pValues !== null;
const state = { rate: content.start, space: content.primary };
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const shown = (value, digits) => (value === null ? "infinite" : String(Number(value.toPrecision(digits))));

// The table.

const style = document.createElement("style");
style.textContent = await unpacked("library-table-style");
document.head.prepend(style);
const { default: DataTable } = await library("library-table");

const rows = content.sets.flatMap((set) => Array.from({ length: content.counts[set] }, (_, n) => ({ set, n })));
const scoreOf = (row) => content.scores[row.set][state.space][row.n];
const levelOf = (row, space = state.space) => content.pValues[row.set][space][row.n];
const pOf = (row, space = state.space) => {
  const levels = content.levels[space];
  return Array.isArray(levels) ? levels[levelOf(row, space)] : levelOf(row, space) / levels;
};
const isFlagged = (row) => pOf(row) <= content.rates[state.rate];
const smallest = (row) => {
  const spaces = content.spaces.filter((space) => space !== "combined");
  return spaces.reduce((least, space) => (pOf(row, space) < pOf(row, least) ? space : least));
};
const byNumber = (value, digits) => (row, kind) => {
  const number = value(row);
  return kind === "display" || kind === "filter" ? shown(number, digits) : number ?? Infinity;
};
const escaped = DataTable.render.text().display;
const columns = [
  { title: "set", className: "name", data: (row, kind) => (kind === "display" ? escaped(row.set) : row.set) },
  { title: "input", data: "n" },
];
if (calibrated) {
  columns.push(
    {
      title: "verdict",
      data: (row) => (isFlagged(row) ? "flagged" : "no"),
    },
    {
      title: "p-value",
      // Of equal ones those of clean inputs come last.
      data: (row, kind) => (kind === "sort" ? 2 * levelOf(row) + (row.set === CLEAN) : shown(pOf(row), 4)),
    },
  );
}
columns.push({ title: "score", data: byNumber(scoreOf, 5) });
if (calibrated && content.spaces.length > 1) {
  const data = (row, kind) => (kind === "display" ? escaped(smallest(row)) : smallest(row));
  columns.push({ title: "smallest p in", className: "name", data });
}
const table = new DataTable("#inputs", {
  data: rows,
  columns,
  deferRender: true,
  rowCallback: (line, row) => line.classList.toggle("flagged", calibrated && isFlagged(row)),
  pageLength: 10,
  order: calibrated ? [[3, "asc"], [4, "desc"]] : [[2, "desc"]],
  language: {
    search: "Filter:",
    info: "_START_ to _END_ of _TOTAL_ inputs",
    infoEmpty: "no inputs",
    infoFiltered: "(of _MAX_)",
    zeroRecords: "no such inputs",
  },
});

// The charts.

await library("library-vega");
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const darken = () => document.documentElement.classList.toggle("dark", dark.matches); // DataTables' name for it
const views = {};

async function draw() {
  // The style sheet colours what is written, for the screen and for paper.
  const config = {
    background: null,
    padding: { left: 5, top: 5, right: 16, bottom: 5 },
    view: { stroke: null },
    axis: { gridColor: "#8883", domainColor: "#888", tickColor: "#888" },
  };
  const found = current();
  for (const [name, specification] of Object.entries(specifications)) {
    const place = element(`chart-${name}`);
    if (place === null) continue;
    const filled = { ...specification, datasets: found[name] };
    const { view } = await window.vegaEmbed(place, filled, { actions: false, renderer: "svg", config });
    views[name] = view;
  }
}

// The data of each chart, for the rate and the space that are chosen.
function current() {
  const rate = content.rates[state.rate];
  const { space } = state;
  const threshold = content.thresholds[space]?.[state.rate] ?? null;
  const clean = content.flagged?.clean?.[space][state.rate];
  // A line that is not known is there, unseen: charts want at least one row.
  const line = (value, otherwise) => ({ at: value ?? otherwise, opacity: value === null ? 0 : 1 });
  return {
    scores: { bins: content.bins[space], now: [line(threshold, content.bins[space][0].start)] },
    rates: {
      shares: content.sets.flatMap((set) =>
        content.rates.map((one, n) => ({ set, rate: one, share: content.flagged?.[set][space][n] }))),
      band: content.band,
      diagonal: [{ rate: 0 }, { rate: content.rates.at(-1) }],
      now: [line(rate)],
    },
    roc: { roc: content.roc[space] ?? [], now: [line(clean ?? null, 0)] },
    map: { map: content.map },
  };
}

function say() {
  if (!calibrated) return;
  const rate = `${Number((100 * content.rates[state.rate]).toPrecision(6))} %`;
  const told = content.sets.map((set) => {
    const n = rows.filter((row) => row.set === set && isFlagged(row)).length;
    const of = content.counts[set];
    return `${n} of ${counted(of, "input")} of set ${set} (${percent(of ? n / of : 0)})`;
  });
  element("sentence").textContent =
    `At a false positive rate of ${rate}, in space ${state.space}: ${told.join(", ")} are flagged.`;
  element("rate-told").textContent = rate;
  element("rate").setAttribute("aria-valuetext", rate);
}

function update() {
  table.rows().invalidate().draw(false);
  const found = current();
  for (const [name, view] of Object.entries(views)) {
    for (const [source, values] of Object.entries(found[name])) view.data(source, values);
    view.run();
  }
  say();
}

for (const button of document.querySelectorAll("article button")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.closest("article").classList.toggle("large")));
  });
}
element("rate")?.addEventListener("input", (event) => {
  state.rate = Number(event.target.value);
  update();
});
element("space").addEventListener("change", (event) => {
  state.space = content.spaces[event.target.selectedIndex];
  update();
});
dark.addEventListener("change", darken);
darken();
await draw();
say();
document.documentElement.dataset.ready = "yes";
