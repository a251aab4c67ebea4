// One layer, opened: maps, numbers, equation, shapes, differences, lines.
// A part of the page's one script, see trace.html: it uses trace_maps.js.

const layerOf = (k) => told.layers[k];

function caption(id, map, what) {
  const shown = map && (map.h > 1 && map.w > 1 && map.total !== map.c && map.c > 1
    ? `, ${map.c} of ${map.total.toLocaleString("en")} channels` : map.c > 1 ? `, ${map.c} channels` : "");
  $(id).textContent = map ? `${what}${shown}; scale \u00b1${number(map.scale)}` : `${what}: none is asked for here`;
}

// what changes with the step and the picture
function layerMaps(at, picture, k) {
  const maps = told.frames[at].maps[k];
  for (const side of ["y", "dy"]) {
    $(`big-${side}`).hidden = !maps[side];
    if (maps[side]) mosaic($(`big-${side}`), maps[side], picture);
  }
  caption("caption-y", maps.y, "y, what it gives");
  caption("caption-dy", maps.dy, "dy, the gradient that arrives");
}

const share = (v) => v === null || v === undefined ? "\u2013" : `${Number((100 * v).toPrecision(3))} %`;

function layerNumbers(at, k) {
  const row = told.frames[at].rows[k], stats = (s) => s ? [...s.slice(0, 3).map((v) => number(v)), share(s[3])] : ["\u2013", "\u2013", "\u2013", "\u2013"];
  rows($("numbers"), ["of the whole batch", "norm", "mean", "deviation", "zeros", "ms"],
    [["y", ...stats(row.y), row.ms[0].toFixed(2)], ["dy", ...stats(row.dy), row.ms[1].toFixed(2)]]);
  $("params").hidden = !row.params.length;
  // no gradient and no move are null, as is the ratio of what has left exact zero
  rows($("params"), ["parameter", "norm", "its gradient's norm", "update / norm"], row.params.map(([name, norm, grad, ratio]) =>
    [name, number(norm), grad === null ? "\u2013" : number(grad), ratio === null ? norm === 0 && grad ? "from 0" : "\u2013" : number(ratio, 2)]));
  const part = { encoder: "in the encoder", decoder: "in the decoder", code: "between encoder and decoder" }[layerOf(k).part];
  const off = row.dead === null ? "" : `; ${share(row.dead)} of its units are off in the whole batch`;
  const flat = row.saturated === null ? "" : `; ${share(row.saturated)} of its numbers lie at a flat end`;
  $("layer-hint").textContent = `${layerOf(k).kind}, ${part}: ${layerOf(k).adds.toLocaleString("en")} multiply-adds a picture, ${layerOf(k).dtype}${off}${flat}`;
}

// what belongs to the layer alone
function layerWords(k) {
  const layer = layerOf(k);
  $("layer-title").textContent = layer.name;
  $("equation").textContent = layer.equation;
  $("shapes").replaceChildren(...layer.shapes.map(([name, shape]) => element("li", {}, element("b", { textContent: `${name} ` }), shape)));
  $("check").hidden = !layer.check.length;
  $("code").replaceChildren(...lines(layer));
  if (layer.check.length) curves(layer.check);
}

// ---- finite differences

const quotient = (entry, i) => (entry.plus[i] - entry.minus[i]) / (2 * told.steps[i]);
const error = (entry, i) => Math.abs(quotient(entry, i) - entry.analytic) / Math.max(Math.abs(entry.analytic), 1e-300);
const FLOOR = 1e-13; // an error of exactly zero has no logarithm

function checkAt(i, check) {
  $("h-name").textContent = `h = ${number(told.steps[i])}`;
  rows($("entries"), ["weight", "w", "by backward", "by differences", "relative error"], check.map((entry) =>
    [entry.entry, number(entry.value, 4), number(entry.analytic, 9), number(quotient(entry, i), 9), number(error(entry, i), 2)]));
  document.querySelectorAll("#curves .now").forEach((dot, n) => dot.setAttribute("transform", `translate(${place(check[n], i)})`));
}

const place = (entry, i) => {
  const e = Math.log10(Math.min(Math.max(error(entry, i), FLOOR), 10));
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

function lines(layer) {
  const shown = (n) => {
    const source = told.sources[n], pre = element("pre");
    pre.innerHTML = escaped(source.text).replace(TOKENS, (all, s, c) => `<span class="${s ? "s" : c ? "c" : "k"}">${all}</span>`);
    return element("figure", {}, element("figcaption", {}, element("b", { textContent: source.name }), source.place && ` \u00b7 ${source.place}`), pre);
  };
  const halves = [["forward", "Forward"], ["backward", "Backward"]].map(([part, title]) =>
    element("section", {}, element("h4", { textContent: title }), ...layer.code[part].map(shown)));
  if (!layer.code.textbook.length) return halves;
  const names = layer.code.textbook.map((n) => told.sources[n].name).join(", ");
  return [...halves, element("details", {}, element("summary", { textContent: `The kernels that these call, as the textbook has them in plain NumPy: ${names}` }), ...layer.code.textbook.map(shown))];
}
