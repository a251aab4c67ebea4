// One layer, opened: maps, numbers, equation, shapes, differences, lines.
// A part of the page's one script, see trace.html: it uses trace_maps.js.

const layerOf = (k) => told.layers[k];

function caption(id, map, what, isPicture) {
  $(id).textContent = `${what}: none is asked for here`;
  if (!map) return;
  const shown = isPicture ? map.c : Math.min(map.total, map.c * map.h * map.w), kind = isPicture ? "channel" : "number";
  const all = `${map.total.toLocaleString("en")} ${kind}${map.total === 1 ? "" : "s"}`;
  $(id).textContent = `${what}: ${shown < map.total ? `the first ${shown.toLocaleString("en")} of ${all}` : all}; scale \u00b1${number(map.scale)}`;
}

// what changes with the step and the picture
function layerMaps(at, picture, k) {
  const maps = told.frames[at].maps[k];
  for (const side of ["y", "dy"]) {
    $(`big-${side}`).hidden = !maps[side];
    if (maps[side]) mosaic($(`big-${side}`), maps[side], picture);
  }
  const isPicture = layerOf(k).size.includes("\u00d7");
  caption("caption-y", maps.y, "y, what it gives", isPicture);
  caption("caption-dy", maps.dy, "dy, the gradient that arrives", isPicture);
}

const share = (v) => v === null || v === undefined ? "\u2013" : `${Number((100 * v).toPrecision(3))} %`;

function layerNumbers(at, k) {
  const row = told.frames[at].rows[k], stats = (s) => s ? [...s.slice(0, 3).map((v) => number(v)), share(s[3])] : ["\u2013", "\u2013", "\u2013", "\u2013"];
  rows($("numbers"), ["of the whole batch", "norm", "mean", "deviation", "zeros", "ms"],
    [["y", ...stats(row.y), row.ms[0].toFixed(2)], ["dy", ...stats(row.dy), row.ms[1].toFixed(2)]]);
  $("params").hidden = !row.params.length;
  // no gradient and no move are null; of what has left exact zero there are words and no ratio
  rows($("params"), ["parameter", "norm", "its gradient's norm", "update / norm"], row.params.map(([name, norm, grad, ratio]) =>
    [name, number(norm), grad === null ? "\u2013" : number(grad), ratio === null ? "\u2013" : typeof ratio === "string" ? ratio : number(ratio, 2)]));
  const part = { encoder: "in the encoder", decoder: "in the decoder", code: "between encoder and decoder" }[layerOf(k).part];
  const off = !row.dead ? "" : `; ${share(row.dead)} of its units are off in the whole batch`;
  const flat = !row.saturated ? "" : `; ${share(row.saturated)} of its numbers lie at a flat end`;
  $("layer-hint").textContent = `${layerOf(k).kind}, ${part}: ${layerOf(k).adds.toLocaleString("en")} multiply-adds a picture, ${layerOf(k).dtype}${off}${flat}`;
}

// what belongs to the layer alone
function layerWords(k) {
  const layer = layerOf(k);
  $("layer-title").textContent = layer.name;
  $("equation").textContent = layer.equation.split("\n").map(broken).join("\n");
  $("shapes").replaceChildren(...shapesOf(layer));
  if (told.series) ways(k);
  $("check").hidden = !layer.check.length;
  $("code").replaceChildren(...lines(layer));
  $("twins").hidden = !layer.twins;
  if (layer.check.length) curves(layer.check);
}

// one statement a line: what follows a semicolon stands under what precedes it
function broken(line) {
  const head = line.match(/^\w+: |^ */)[0];
  return line.replace(/; {2,}(?=\S)/g, `;\n${" ".repeat(head.length)}`);
}

// forward and backward with this run's shapes: a gradient is as large as what it belongs to
function shapesOf(layer) {
  const [x, y, ...params] = layer.shapes;
  const said = (d, list) => list.flatMap(([name, shape], n) => [n ? " \u00b7 " : "",
    element("span", {}, element("b", { textContent: `${d}${name} ` }), shape)]);
  return [element("li", {}, ...said("", [x, ...params]), " \u2192 ", ...said("", [y])),
    element("li", {}, ...said("d", [y]), " \u2192 ", ...said("d", [x, ...params]))];
}

// ---- a series: the loss, and this layer's norms, over the steps

const wayPlace = (values, i) => {
  const logs = values.map((v) => v > 0 ? Math.log10(v) : NaN), seen = logs.filter(Number.isFinite);
  const low = Math.min(...seen), high = Math.max(...seen), t = high > low ? (logs[i] - low) / (high - low) : 0.5;
  return Number.isFinite(logs[i]) ? [6 + 248 * i / Math.max(values.length - 1, 1), 84 - 62 * t].map((v) => v.toFixed(1)) : null;
};
const wayValues = (k) => [["loss", told.frames.map((f) => f.terms.loss)], ["\u2016y\u2016", told.frames.map((f) => f.rows[k].y?.[0])],
  ["\u2016dy\u2016", told.frames.map((f) => f.rows[k].dy?.[0])], ...(layerOf(k).check.length ? [[`update / norm of ${told.frames[0].rows[k].params[0][0]}`, told.frames.map((f) => f.rows[k].params[0][3])]] : [])];

function ways(k) {
  $("way").hidden = false;
  $("ways").innerHTML = wayValues(k).map(([name, values]) => {
    const points = values.map((_, i) => wayPlace(values, i)), seen = values.filter((v) => v > 0);
    if (!seen.length) return "";
    return `<svg viewBox="0 0 260 106" role="img" aria-label="${name} over the steps, from ${number(seen[0])} to ${number(seen.at(-1))}"><text class="title" x="6" y="12">${name}: ${number(Math.min(...seen))} to ${number(Math.max(...seen))}</text>`
      + `<line class="axis" x1="6" x2="254" y1="90" y2="90"/><text x="6" y="103">step ${told.frames[0].step}</text><text x="254" y="103" text-anchor="end">${told.frames.at(-1).step}</text>`
      + `<polyline class="curve" points="${points.filter(Boolean).map((p) => p.join(",")).join(" ")}"/><circle class="now" r="4.5"/></svg>`;
  }).join("");
}

function wayAt(at, k) {
  const dots = document.querySelectorAll("#ways .now");
  wayValues(k).filter(([, values]) => values.some((v) => v > 0)).forEach(([, values], n) => {
    const spot = wayPlace(values, at);
    dots[n].setAttribute("visibility", spot ? "visible" : "hidden");
    if (spot) dots[n].setAttribute("transform", `translate(${spot})`);
  });
}

// ---- finite differences

const quotient = (entry, i) => entry.plus[i] === null || entry.minus[i] === null ? NaN : (entry.plus[i] - entry.minus[i]) / (2 * told.steps[i]);
const error = (entry, i) => Math.abs(quotient(entry, i) - entry.analytic) / Math.max(Math.abs(entry.analytic), 1e-300);
const FLOOR = 1e-13; // an error of exactly zero has no logarithm

function checkAt(i, check) {
  $("h-name").textContent = `h = ${number(told.steps[i])}`;
  rows($("entries"), ["weight", "w", "by backward", "by differences", "relative error"], check.map((entry) =>
    [entry.entry, number(entry.value, 4), number(entry.analytic, 9), number(quotient(entry, i), 9), number(error(entry, i), 2)]));
  document.querySelectorAll("#curves .now").forEach((dot, n) => dot.setAttribute("transform", `translate(${place(check[n], i)})`));
}

const place = (entry, i) => {
  const e = Math.log10(Math.min(Math.max(error(entry, i), FLOOR), 10) || 10); // not-a-number lies at the top
  return [34 + 220 * i / (told.steps.length - 1), 10 + 110 * (1 - e) / 14].map((v) => v.toFixed(1));
};

// relative error over h, both in powers of ten
function curves(check) {
  const svg = (entry) => {
    const points = told.steps.map((_, i) => place(entry, i)), at = (e) => 10 + 110 * (1 - e) / 14;
    const x = [0, 3, 6, 9, 12].filter((i) => i < told.steps.length), y = [0, -4, -8, -12];
    return `<svg viewBox="0 0 262 146" role="img" aria-label="Relative error of the difference quotient of ${entry.entry} over h">`
      + y.map((e) => `<line class="axis" x1="34" x2="254" y1="${at(e)}" y2="${at(e)}"/><text x="30" y="${at(e) + 3.5}" text-anchor="end">10${raised(e)}</text>`).join("")
      + x.map((i) => `<text x="${34 + 220 * i / (told.steps.length - 1)}" y="134" text-anchor="middle">10${raised(-i)}</text>`).join("")
      + `<text x="144" y="146" text-anchor="middle">h, and the error of ${entry.entry}</text>`
      + `<polyline class="curve" points="${points.map((p) => p.join(",")).join(" ")}"/>`
      + points.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="1.8"/>`).join("") + `<circle class="now" r="5"/></svg>`;
  };
  $("curves").innerHTML = check.map(svg).join("");
  checkAt($("h").valueAsNumber, check);
}

const raised = (n) => `<tspan dy="-4" font-size="8">${String(n).replace("-", "\u2212")}</tspan>`;

// ---- the real lines

const escaped = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
const TOKENS = /("""[\s\S]*?"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(#[^\n]*)|\b(def|return|if|else|elif|for|in|is|not|and|or|None|lambda|with|class|raise|import|from|while|yield)\b/g;

function shown(n) {
  const source = told.sources[n], pre = element("pre");
  pre.innerHTML = escaped(source.text).replace(TOKENS, (all, s, c) => `<span class="${s ? "s" : c ? "c" : "k"}">${all}</span>`);
  return element("figure", {}, element("figcaption", {}, element("b", { textContent: source.name }), source.place && ` \u00b7 ${source.place}`), pre);
}

// where the gradient begins: the model's own equation, and its lines
function objective() {
  const [summary, equation, code] = $("objective").children;
  summary.textContent = `The objective of ${told.model}: where the gradient begins`;
  equation.textContent = told.objective.equation.split("\n").map(broken).join("\n");
  code.append(...told.objective.code.map((n) => element("section", {}, shown(n))));
}

function lines(layer) {
  const halves = [["forward", "Forward"], ["backward", "Backward"]].map(([part, title]) =>
    element("section", {}, element("h4", { textContent: title }), ...layer.code[part].map(shown)));
  if (!layer.code.textbook.length) return halves;
  const names = layer.code.textbook.map((n) => told.sources[n].name).join(", ");
  return [...halves, element("details", {}, element("summary", { textContent: `The kernels that these call, as the textbook has them in plain NumPy: ${names}` }), ...layer.code.textbook.map(shown))];
}
