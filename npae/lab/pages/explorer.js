// The explorer: one code z, changed by the plane, the sliders, the buttons or a drawing, and decoded at once.
// A part of the page's one script, see explorer.html: it uses makePlane of plane.js and makePad of pad.js.

const told = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const [H, W, C] = told.shape, d = told.latent, K = told.classes ?? 0;

// ---- the model

const get = engine.parameters(told.params);
const decoder = engine.make(told.decoder, [d + K], get);
const encoder = told.encoder && engine.make(told.encoder, K ? [H * W * C + K] : told.shape, get);
const code = new Float32Array(d + K), pixels = new Float32Array(H * W * C);
const asked = new Float32Array(H * W * C + K);

function oneHot(row, from, label) {
  if (!K) return;
  if (!Number.isInteger(label) || label < 0 || label >= K) {
    throw new Error(`this model needs a label from 0 to ${K - 1}, got ${label}`);
  }
  row.fill(0, from);
  row[from + label] = 1;
}

function filled(row, numbers, n, what) {
  if (numbers.length !== n) throw new Error(`${what} of this model has ${n} numbers, got ${numbers.length}`);
  row.set(numbers);
}

// the likelihood's mean: what model.decode gives; valid until the next decode
function decode(z, label) {
  filled(code, z, d, "a code");
  oneHot(code, d, label);
  const y = decoder.run(code);
  if (told.mean === "sigmoid") for (let i = 0; i < y.length; i++) pixels[i] = engine.sigmoid(y[i]);
  else pixels.set(y);
  return pixels;
}

// a VAE's encoder gives [mu | logvar]: mu are the first d
function encode(x, label) {
  if (!encoder) throw new Error("the encoder was too large for this page");
  filled(asked, x, H * W * C, "a picture");
  oneHot(asked, H * W * C, label);
  return encoder.run(asked).subarray(0, d);
}

// ---- pictures on canvases

function painter(canvas) {
  canvas.width = W;
  canvas.height = H;
  const context = canvas.getContext("2d"), image = context.createImageData(W, H);
  image.data.fill(255); // opaque
  return (x) => {
    for (let i = 0; i < H * W; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * x[i * C + (C === 3 ? c : 0)]; // rounds and clamps
    }
    context.putImageData(image, 0, 0);
  };
}

const paintDecoded = painter($("decoded")), paintOriginal = painter($("original"));

// ---- the state, and showing it

const z = Float32Array.from(told.home);
let label = 0, waiting = null;

function show() {
  const start = performance.now();
  paintDecoded(decode(z, label));
  if (plane) plane.mark();
  const took = performance.now() - start;
  $("time").textContent = `${took.toFixed(1)} ms, drawing included`;
  $("code").textContent = Array.from(z.subarray(0, 64), (v) => number(v, 2)).join(", ")
    + (d > 64 ? ` and ${d - 64} more` : "");
  for (const slider of sliders) slider.follow();
  return took;
}

// at most once a frame, however many events there are; the latest wish counts
function later(act = show) {
  if (!waiting) requestAnimationFrame(() => { const act = waiting; waiting = null; act(); });
  waiting = act;
}

function source(x, caption) {
  $("source").classList.toggle("empty", !x);
  if (x) paintOriginal(x);
  $("caption").textContent = caption;
}

function move(to) {
  z.set(to);
  source(null, "no original: this code was set by hand");
  later();
}

const number = (v, digits) => v.toFixed(digits).replace(/^-(?=.*[1-9])/, "\u2212").replace("-", ""); // no minus zero
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

// ---- sliders, the liveliest numbers first

const sliders = [];

function addSlider(i) {
  const [low, high, step] = told.ranges[i], digits = Math.max(1, Math.round(-Math.log10(step)));
  const row = document.createElement("label");
  row.className = "slider";
  row.innerHTML = `<span>z<sub>${i + 1}</sub></span><input type="range"><output></output>`;
  const input = row.querySelector("input"), output = row.querySelector("output");
  Object.assign(input, { min: low, max: high, step });
  input.addEventListener("input", () => { const to = z.slice(); to[i] = input.valueAsNumber; move(to); });
  $("sliders").append(row);
  sliders.push({ follow: () => { input.value = z[i]; output.textContent = number(z[i], digits); } });
  sliders.at(-1).follow();
}

const FEW = 12;
told.order.slice(0, FEW).forEach(addSlider);
$("all").hidden = d <= FEW;
$("all").textContent = `show all ${d.toLocaleString("en")}`;
$("all").addEventListener("click", () => {
  told.order.slice(FEW).forEach(addSlider);
  $("sliders").classList.add("many");
  $("all").hidden = true;
});

// ---- buttons

function setLabel(to) {
  label = to;
  for (const [k, button] of [...$("label-buttons").children].entries()) button.setAttribute("aria-pressed", k === label);
  if (plane) plane.relabel();
}

const tests = engine.unpack(told.pictures.x).map((v) => v / 255), testCodes = engine.unpack(told.pictures.z);
let chosen = -1;

function testPicture(which) {
  chosen = which;
  const name = told.pictures.labels?.[which];
  if (K) setLabel(name);
  z.set(testCodes.subarray(which * d, (which + 1) * d));
  const x = tests.subarray(which * H * W * C, (which + 1) * H * W * C);
  source(x, name === undefined ? "a test picture" : `a test picture, label\u00a0${name}`);
  show();
}

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const others = told.pictures.x.shape[0];
const another = () => (chosen + 1 + Math.floor(Math.random() * Math.max(others - 1, 1))) % others;
$("test").addEventListener("click", () => testPicture(another()));
$("prior").addEventListener("click", () => move(z.map(normal)));
$("reset").addEventListener("click", () => move(told.home));

// ---- the words

const numbers = d === 1 ? "1 number" : `${d.toLocaleString("en")} numbers`;
$("title").textContent = `What ${numbers} can draw`;
$("lead").textContent = `The decoder runs in this page: it turns a code of ${numbers} into a picture of ${W} \u00d7 ${H} `
  + "pixels while you move.";
const facts = [["recipe", told.recipe], ["trained on", told.dataset],
  [`on ${told.tests.toLocaleString("en")} test pictures`, told.figure]];
for (const [name, value] of facts) {
  if (!value) continue;
  const item = document.createElement("li");
  item.append(`${name} `, Object.assign(document.createElement("b"), { textContent: value }));
  $("facts").append(item);
}
$("codes-title").textContent = told.points ? "The plane of codes" : "The numbers of the code";
$("hint").textContent = d > 1 ? "Sorted by how much they vary over the test pictures, the liveliest first." : "";
$("draw-hint").textContent = "The encoder turns it into a code while you draw, and the decoder shows what the code "
  + "still knows of it." + (told.binarized ? " This model knows black and white alone, so greys are made one or the other." : "");

let plane = null;
$("prior").hidden = !told.prior;
$("labels").hidden = !K;
for (let k = 0; k < K; k++) {
  const button = Object.assign(document.createElement("button"), { textContent: k });
  button.addEventListener("click", () => { setLabel(k); later(); });
  $("label-buttons").append(button);
}
for (const id of ["plane", "legend", "views"]) $(id).hidden = !told.points;
if (told.points) {
  plane = makePlane();
  plane.view(false);
}
$("draw").hidden = !(told.drawing && encoder);
if (!$("draw").hidden) makePad();
for (let k = 0; k < 5; k++) decode(z, label); // the browser compiles what runs often
testPicture(0);

// for tests and the curious: plain arrays in, plain arrays out; `show` gives the milliseconds that it took
window.npae = {
  code: () => Array.from(z),
  decode: (code, label) => Array.from(decode(code, label)),
  encode: (x, label) => Array.from(encode(x, label)),
  show: (code, name = label) => { filled(z, code, d, "a code"); setLabel(name); return show(); },
};
