// The maps: inflated once, then painted from bytes through a table of colours.
// A part of the page's one script, see trace.html.

const told = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const BLANK = 254, BAD = 255, LEVELS = told.levels;
const [P, H, W, C] = told.pictures.shape;

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const bytes = await inflated($("maps-data").textContent.trim());

// where each block of P pictures begins: first the pictures themselves, then layer by layer of each frame
let end = P * H * W * C;
for (const frame of told.frames) {
  for (const layer of frame.maps) {
    for (const side of ["y", "dy"]) {
      if (!layer[side]) continue;
      const [[c, h, w], scale, total] = layer[side];
      layer[side] = { c, h, w, scale, total, start: end };
      end += P * c * h * w;
    }
  }
  frame.painted = end;
  end += P * H * W * C;
}
if (end !== bytes.length) throw new Error(`the maps have ${bytes.length} bytes, and ${end} were told`);

// ---- colours

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
const packed = ([r, g, b], a = 255) => LITTLE ? (a << 24 | b << 16 | g << 8 | r) >>> 0 : (r << 24 | g << 16 | b << 8 | a) >>> 0;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (name) => [1, 3, 5].map((i) => parseInt(css(name).slice(i, i + 2), 16));
let table = new Uint32Array(256);

function colours() {
  const zero = rgb("--zero"), ends = [rgb("--minus"), rgb("--plus")];
  for (let k = 0; k <= 2 * LEVELS; k++) {
    const t = Math.abs(k - LEVELS) / LEVELS, to = ends[k < LEVELS ? 0 : 1];
    table[k] = packed(zero.map((v, i) => Math.round(v + t * (to[i] - v))));
  }
  table[BLANK] = 0;
  table[BAD] = packed(rgb("--ink"));
}

// ---- painting

const images = new Map(); // one for each canvas

function surface(canvas, w, h) {
  let image = images.get(canvas);
  if (!image || image.width !== w || image.height !== h) {
    canvas.width = w;
    canvas.height = h;
    image = canvas.getContext("2d").createImageData(w, h);
    images.set(canvas, image);
  }
  return image;
}

// the channels of one picture side by side, one transparent pixel between them
function mosaic(canvas, map, picture) {
  const { c, h, w } = map, across = Math.ceil(Math.sqrt(c)), down = Math.ceil(c / across);
  const wide = across * (w + 1) - 1, image = surface(canvas, wide, down * (h + 1) - 1);
  const out = new Uint32Array(image.data.buffer);
  out.fill(0);
  let from = map.start + picture * c * h * w;
  for (let k = 0; k < c; k++) {
    const corner = Math.floor(k / across) * (h + 1) * wide + k % across * (w + 1);
    for (let i = 0; i < h; i++) {
      const row = corner + i * wide;
      for (let j = 0; j < w; j++) out[row + j] = table[bytes[from++]];
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// a picture in its own greys or colours
function photograph(canvas, start, picture) {
  const image = surface(canvas, W, H), from = start + picture * H * W * C;
  for (let i = 0; i < H * W; i++) {
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = bytes[from + i * C + (C === 3 ? k : 0)];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function ramp() {
  const image = surface($("ramp"), 2 * LEVELS + 1, 1), out = new Uint32Array(image.data.buffer);
  for (let k = 0; k <= 2 * LEVELS; k++) out[k] = table[k];
  $("ramp").getContext("2d").putImageData(image, 0, 0);
}

// ---- words and elements

// three digits, as 0.0123 or 1.23·10⁻⁷; null is what JSON cannot hold
function number(v, digits = 3) {
  if (v === null || !Number.isFinite(v)) return "not a number";
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size >= 1e-3 && size < 1e5) return Number(v.toPrecision(digits)).toString().replace("-", "\u2212");
  const [front, power] = v.toExponential(digits - 1).split("e");
  const raised = [...power.replace("+", "")].map((c) => c === "-" ? "\u207b" : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[c]).join("");
  return `${front.replace("-", "\u2212")}\u00b710${raised}`;
}

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function rows(table, head, body) {
  const line = (cells, kind) => element("tr", {}, ...cells.map((cell, i) => {
    const made = element(kind, { textContent: cell });
    made.dataset.name = head[i]; // what a narrow window writes before it
    return made;
  }));
  table.replaceChildren(line(head, "th"), ...body.map((cells) => line(cells, "td")));
}
