// The strip: all layers at once, for the chosen step and picture. A part of the page's one script, see trace.html.

const state = { frame: 0, picture: 0, layer: Math.max(0, told.layers.findIndex((l) => l.check.length)) };
const tiles = [];

function pictureTile(name, what) {
  const canvas = element("canvas"), words = element("span", { className: "kind", textContent: what });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", what);
  $("strip").append(element("div", { className: "tile picture" }, element("b", { textContent: name }), words,
    element("span", { className: "size", textContent: told.pictures.size }), element("div", { className: "frame" }, canvas)));
  return canvas;
}

function layerTile(layer, k) {
  const sides = ["y", "dy"].map(() => ({ canvas: element("canvas"), none: element("span"), scale: element("span", { className: "scale" }) }));
  const gauge = element("i"), frames = sides.map((s) => element("div", { className: "frame" }, s.canvas, s.none));
  const button = element("button", { className: "tile" }, element("b", { className: /\d$/.test(layer.name) ? "name numbered" : "name", textContent: layer.name }),
    element("span", { className: "kind", textContent: breakable(layer.kind) }), element("span", { className: "size", textContent: layer.size, title: layer.size }),
    frames[0], sides[0].scale, frames[1], sides[1].scale, element("div", { className: "gauge" }, gauge));
  button.title = layer.name;
  if (k === told.code) button.append(element("span", { className: "mark", textContent: "code" }));
  button.addEventListener("click", () => { state.layer = k; show(); });
  $("strip").append(button);
  tiles.push({ button, sides, gauge });
}

// where a kind may break when its column is narrow: before a capital and before 2d, and with a hyphen in a long word
function breakable(kind) {
  return kind.replace(/(?=[A-Z]|2d)/g, "\u200b").replace(/[a-z]{7}(?=[a-z]{4})/g, "$&\u00ad");
}

// the gradient's length between the least and the largest of all steps, in powers of ten
const lengths = told.frames.flatMap((f) => f.rows.map((r) => r.dy?.[0])).filter((v) => v > 0).map(Math.log10);
const low = lengths.length ? Math.floor(Math.min(...lengths)) : 0, high = Math.max(Math.ceil(Math.max(...lengths)), low + 1);

function drawTile(k) {
  const { button, sides, gauge } = tiles[k], frame = told.frames[state.frame], maps = frame.maps[k], norm = frame.rows[k].dy?.[0];
  ["y", "dy"].forEach((side, s) => {
    const map = maps[side], { canvas, none, scale } = sides[s];
    canvas.hidden = !map;
    none.textContent = map ? "" : side === "y" ? "not reached" : "not asked for";
    scale.textContent = map ? `\u00b1${number(map.scale, 2)}` : "\u00a0";
    if (map) mosaic(canvas, map, state.picture);
  });
  gauge.style.width = norm > 0 ? `${Math.max(2, 100 * (Math.log10(norm) - low) / (high - low))}%` : "0";
  gauge.parentElement.title = norm === undefined ? "no gradient" : `norm of dy: ${number(norm)}`;
  button.setAttribute("aria-pressed", k === state.layer);
  button.classList.toggle("wrong", frame.flags.some((flag) => flag.startsWith(`${told.layers[k].name} `)));
}

let opened = null, said = null;

function show() {
  const start = performance.now(), frame = told.frames[state.frame];
  photograph(original, 0, state.picture);
  photograph(painted, frame.painted, state.picture);
  tiles.forEach((_, k) => drawTile(k));
  if (opened !== state.layer) layerWords(state.layer);
  opened = state.layer;
  layerMaps(state.frame, state.picture, state.layer);
  layerNumbers(state.frame, state.layer);
  if (told.series) wayAt(state.frame, state.layer);
  [...$("pictures").children].forEach((button, n) => button.setAttribute("aria-pressed", n === state.picture));
  if (said !== frame) words(frame);
  said = frame;
  return performance.now() - start;
}

function words(frame) {
  const well = [element("li", { className: "well", textContent: `${frame.well[0].toUpperCase()}${frame.well.slice(1)}.` })];
  $("flags").replaceChildren(...frame.flags.length ? frame.flags.map((flag) => element("li", { textContent: flag })) : well);
  const terms = Object.entries(frame.terms).map(([name, v]) => element("li", {}, `${name} `, element("b", { textContent: number(v, 4) })));
  $("facts").replaceChildren(...terms, element("li", { textContent: told.unit }), element("li", { textContent: `batch of ${told.batch.toLocaleString("en")}` }),
    frame.compiled ? element("li", { textContent: "kernels were made ready in this step: its times contain that" }) : "");
  $("step-name").textContent = `step ${frame.step.toLocaleString("en")}, loss ${number(frame.terms.loss, 4)}`;
  $("step").setAttribute("aria-valuetext", $("step-name").textContent);
}

// at most once a frame, however many events there are
let waiting = false;
function later() {
  if (!waiting) requestAnimationFrame(() => { waiting = false; show(); });
  waiting = true;
}

// ---- the page

$("title").textContent = told.title;
const steps = told.frames.map((f) => f.step);
$("lead").textContent = told.series ? `${told.model}: ${steps.length} steps of a training, from ${steps[0].toLocaleString("en")} to ${steps.at(-1).toLocaleString("en")}, each forward and back. The maps are those of the same pictures each time, the numbers those of the step\u2019s own batch.`
  : `${told.model}: one step of a training, forward and back, layer by layer.`;
$("legend").textContent = `The scale stands beside each map: ${Math.round(100 * told.quantile)} % of a layer's shown numbers lie within. The maps\u2019 gradients are those of the mean loss of ${told.shown.toLocaleString("en")} pictures${told.shown === told.batch ? "" : `; bars and tables tell those of the batch of ${told.batch.toLocaleString("en")}`}.`;

objective();

const original = pictureTile("x", "the picture");
told.layers.forEach(layerTile);
const painted = pictureTile("x\u0302", "what is painted");

// the arrow keys walk along the strip
$("strip").addEventListener("keydown", (event) => {
  const to = tiles[state.layer + { ArrowLeft: -1, ArrowRight: 1 }[event.key]];
  if (!to) return;
  event.preventDefault();
  to.button.focus();
  to.button.click();
});

for (let n = 0; n < P; n++) {
  const label = told.pictures.labels?.[n], canvas = element("canvas");
  const button = element("button", {}, canvas);
  button.setAttribute("aria-label", `picture ${n + 1}${label === undefined ? "" : `, label ${label}`}`);
  button.addEventListener("click", () => { state.picture = n; show(); });
  $("pictures").append(button);
  photograph(canvas, 0, n);
}
$("when").textContent = told.series ? `, with the weights after step ${steps.at(-1).toLocaleString("en")}` : "";
$("steps").hidden = !told.series;
$("step").max = told.frames.length - 1;
$("step").value = 0;
$("step").addEventListener("input", () => { state.frame = $("step").valueAsNumber; later(); });
$("h").max = told.steps.length - 1;
$("h").value = 6;
$("h").addEventListener("input", () => checkAt($("h").valueAsNumber, layerOf(state.layer).check));

colours();
ramp();
show();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours(); ramp(); show(); });

// for tests and the curious; `show` gives the milliseconds that it took
window.npae = { told, show: (to) => { Object.assign(state, to); $("step").value = state.frame; return show(); } };
