"use strict";
// The explorer's page: one code z, changed by the plane, the sliders, the buttons or a drawing, and decoded at once.
(() => {
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
  let label = 0, held = false, waiting = null;

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

  // ---- the plane of codes

  const HUES = ["#4c8fd0", "#f08c2e", "#3fa656", "#e0525a", "#9a6fd0", "#a9765a", "#e07fc0", "#8f959e", "#b8a832", "#34b3c0"];
  const names = [...new Set(told.points?.labels ?? [])].sort((a, b) => a - b);
  const hue = (name) => {
    const k = names.indexOf(name);
    if (k < 0) return HUES[0];
    return names.length <= HUES.length ? HUES[k] : `hsl(${(360 * k) / names.length} 60% 55%)`;
  };

  // one scale for both axes, and a margin around the codes and the way back: [[low, high], [low, high]]
  function square(codes) {
    const ends = [0, 1].map((k) => {
      const values = [...codes, ...told.home].filter((_, i) => i % 2 === k);
      return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    });
    const half = 0.57 * Math.max(...ends.map(([low, high]) => high - low), 1e-3);
    return ends.map(([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half]);
  }

  // places pushed away from each other, in small steps, until about `least` lies between any two
  function apart(places, least) {
    for (let pass = 0; pass < 50; pass++) for (const a of places) for (const b of places) {
      const gap = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (a === b || gap >= least) continue;
      for (const k of [0, 1]) a[k] += (0.25 * (least - gap) * (a[k] - b[k])) / (gap + 1e-9);
    }
    return places;
  }

  function makePlane() {
    const codes = engine.unpack(told.points.z), labels = told.points.labels;
    const spans = square(codes), edge = { left: 38, right: 10, top: 10, bottom: 28 };
    const ground = $("ground").getContext("2d"), marker = $("marker").getContext("2d");
    const N = 18, sheet = document.createElement("canvas"), stamp = document.createElement("canvas");
    const paintStamp = painter(stamp);
    let size = 0, pictures = false, drawn = 0;

    const inner = () => size - edge.left - edge.right, tall = () => size - edge.top - edge.bottom;
    const at = (a, b) => [
      edge.left + (inner() * (a - spans[0][0])) / (spans[0][1] - spans[0][0]),
      edge.top + (tall() * (spans[1][1] - b)) / (spans[1][1] - spans[1][0]),
    ];
    const codeAt = (left, top) => [
      clamp(spans[0][0] + ((left - edge.left) / inner()) * (spans[0][1] - spans[0][0]), ...spans[0]),
      clamp(spans[1][1] - ((top - edge.top) / tall()) * (spans[1][1] - spans[1][0]), ...spans[1]),
    ];

    function resize() {
      size = $("plane").clientWidth;
      for (const context of [ground, marker]) {
        context.canvas.width = context.canvas.height = Math.round(size * devicePixelRatio);
        context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
      }
      draw();
      mark();
    }

    function ticks([low, high]) {
      const power = 10 ** Math.floor(Math.log10((high - low) / 4));
      const step = [1, 2, 5, 10].map((s) => s * power).find((s) => (high - low) / s <= 8);
      const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
      return Array.from({ length: last - first + 1 }, (_, i) => [(first + i) * step, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))]);
    }

    function draw() {
      ground.clearRect(0, 0, size, size);
      ground.font = "12px system-ui, sans-serif";
      ground.textBaseline = "middle";
      for (const axis of [0, 1]) for (const [value, digits] of ticks(spans[axis])) {
        const [left, top] = axis ? at(spans[0][0], value) : at(value, spans[1][0]);
        ground.fillStyle = colour("--grid");
        if (axis) ground.fillRect(edge.left, top, inner(), 1);
        else ground.fillRect(left, edge.top, 1, tall());
        ground.fillStyle = colour("--soft");
        ground.textAlign = axis ? "right" : "center";
        ground.fillText(number(value, digits), axis ? edge.left - 8 : left, axis ? top : size - edge.bottom / 2);
      }
      if (pictures) {
        ground.imageSmoothingEnabled = false;
        ground.drawImage(sheet, edge.left, edge.top, inner(), tall());
      } else scatter();
    }

    function scatter() {
      ground.globalAlpha = 0.75;
      for (let i = 0; i < codes.length; i += 2) {
        ground.fillStyle = hue(labels?.[i / 2]);
        ground.beginPath();
        ground.arc(...at(codes[i], codes[i + 1]), 2.4, 0, 7);
        ground.fill();
      }
      ground.globalAlpha = 1;
      if (names.length > 30) return;
      ground.font = "bold 20px system-ui, sans-serif";
      ground.textAlign = "center";
      const medians = names.map((name) => at(...[0, 1].map((k) => {
        const values = labels.flatMap((other, i) => (other === name ? [codes[2 * i + k]] : [])).sort((a, b) => a - b);
        return values[values.length >> 1];
      })));
      ground.lineWidth = 4;
      ground.lineJoin = "round";
      ground.strokeStyle = colour("--card");
      ground.fillStyle = colour("--ink");
      apart(medians, 26).forEach((place, k) => {
        ground.strokeText(names[k], ...place);
        ground.fillText(names[k], ...place);
      });
    }

    // N x N decoded pictures, a row a frame, each at the code of its middle
    function fill(turn = ++drawn, row = 0) {
      if (turn !== drawn || row === N) return;
      const context = sheet.getContext("2d");
      for (let j = 0; j < N; j++) {
        const [low, high] = spans[0], [bottom, top] = spans[1];
        paintStamp(decode([low + ((j + 0.5) / N) * (high - low), top - ((row + 0.5) / N) * (top - bottom)], label));
        context.drawImage(stamp, j * W, row * H);
      }
      draw();
      requestAnimationFrame(() => fill(turn, row + 1));
    }

    function view(asPictures) {
      pictures = asPictures;
      if (!size) resize();
      $("view-codes").setAttribute("aria-pressed", !pictures);
      $("view-pictures").setAttribute("aria-pressed", pictures);
      sheet.width = N * W;
      sheet.height = N * H;
      $("legend").hidden = pictures || !names.length;
      hold(held);
      drawn++;
      if (pictures) fill();
      draw();
    }

    // a ring at the code, and the decoded picture beside it
    function mark() {
      const [left, top] = at(clamp(z[0], ...spans[0]), clamp(z[1], ...spans[1]));
      marker.clearRect(0, 0, size, size);
      for (const [width, name] of [[5, "--card"], [2.5, "--accent"]]) {
        marker.lineWidth = width;
        marker.strokeStyle = colour(name);
        marker.beginPath();
        marker.arc(left, top, 7, 0, 7);
        marker.stroke();
      }
      const tall = 88, wide = (tall * W) / H, gap = 16;
      const x = left + gap + wide > size - 4 ? left - gap - wide : left + gap;
      const y = clamp(top - gap - tall, 4, size - tall - 4);
      marker.imageSmoothingEnabled = false;
      marker.drawImage($("decoded"), x, y, wide, tall);
      marker.lineWidth = 2;
      marker.strokeStyle = held ? colour("--accent") : colour("--line");
      marker.strokeRect(x, y, wide, tall);
    }

    function follow(event) {
      const box = $("marker").getBoundingClientRect();
      move(codeAt(event.clientX - box.left, event.clientY - box.top));
    }

    $("marker").addEventListener("pointermove", (event) => {
      if (!held || event.pointerType !== "mouse") follow(event);
    });
    $("marker").addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse") hold(!held); // the code is where the pointer is, or was, and stays
      else follow(event);
      later();
    });
    $("marker").addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
      if (!way) return;
      event.preventDefault();
      move(told.ranges.map(([low, high, step], i) => clamp(z[i] + way[i] * step * (event.shiftKey ? 10 : 1), low, high)));
    });
    $("view-codes").addEventListener("click", () => view(false));
    $("view-pictures").addEventListener("click", () => view(true));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resize);
    new ResizeObserver(resize).observe($("plane"));
    $("legend").innerHTML = names.map((name) => `<li><i style="background:${hue(name)}"></i>${name}</li>`).join("");
    return { mark, view, relabel: () => pictures && fill() };
  }

  function hold(to) {
    held = to;
    $("hint").textContent = held ? "Held: click the plane once more to let go."
      : `${$("legend").hidden ? "Each place is decoded" : "Each dot is a test picture's code"}. Move over the plane: `
        + "the decoder draws what lies there. Click to hold.";
  }

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
  $("test").addEventListener("click", () => testPicture((chosen + 1 + Math.floor(Math.random() * Math.max(others - 1, 1))) % others));
  $("prior").addEventListener("click", () => move(z.map(normal)));
  $("reset").addEventListener("click", () => move(told.home));

  // ---- the drawing pad: strokes are kept as lines, so that they can be drawn again at the encoder's size and place

  const strokes = [], SIDE = 560; // the pad's own pixels: twice what is shown, for sharp screens

  function line(context, points, width, alpha) {
    Object.assign(context, { lineWidth: width, lineCap: "round", lineJoin: "round", globalAlpha: alpha });
    context.beginPath();
    for (const stroke of points) {
      context.moveTo(...stroke[0]);
      for (const [left, top] of stroke) context.lineTo(left + 0.001, top); // a line of no length would leave no dot
    }
    context.stroke();
  }

  function makePad() {
    const { paper, centre, extent } = told.drawing;
    const pad = $("pad").getContext("2d");
    const small = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const pen = extent ? extent / 8 : Math.max(H, W) / 11; // MNIST's lines are about 2.5 pixels wide in 20
    const x = new Float32Array(H * W);
    const [ground, ink] = paper ? ["#fff", "#000"] : ["#000", "#fff"];
    Object.assign($("pad"), { width: SIDE, height: Math.round((SIDE * H) / W) });
    Object.assign(small.canvas, { width: W, height: H });

    function drawPad() {
      pad.globalAlpha = 1;
      pad.fillStyle = ground;
      pad.fillRect(0, 0, SIDE, pad.canvas.height);
      pad.strokeStyle = ink;
      const scale = SIDE / W;
      line(pad, strokes.map((stroke) => stroke.map((point) => point.map((v) => v * scale))), pen * scale, 1);
    }

    // the strokes scaled and shifted onto W x H pixels, with a soft pen; ink is 1
    function raster(scale, shift) {
      small.globalAlpha = 1;
      small.fillStyle = "#000";
      small.fillRect(0, 0, W, H);
      small.strokeStyle = "#fff";
      const placed = strokes.map((stroke) => stroke.map((point) => point.map((v, k) => v * scale + shift[k])));
      line(small, placed, pen + 1, 0.35);
      line(small, placed, pen, 1);
      const data = small.getImageData(0, 0, W, H).data;
      for (let i = 0; i < H * W; i++) x[i] = data[4 * i] / 255;
    }

    // as long as the data set's pictures, and with the centre of mass where theirs lies
    function normalise() {
      if (!centre) return raster(1, [0, 0]);
      const points = strokes.flat(), ends = [0, 1].map((k) => points.map((point) => point[k]));
      const [low, high] = [Math.min, Math.max].map((f) => ends.map((values) => values.reduce((a, b) => f(a, b))));
      const scale = (extent - pen) / Math.max(high[0] - low[0], high[1] - low[1], extent / 4); // a dot stays small
      const shift = [W, H].map((n, k) => n / 2 - (scale * (low[k] + high[k])) / 2);
      for (let pass = 0; pass < 2; pass++) { // twice, for what lay outside at first
        raster(scale, shift);
        let mass = 0, across = 0, down = 0;
        x.forEach((v, i) => { mass += v; across += v * (i % W); down += v * Math.floor(i / W); });
        shift[0] += centre[1] - across / mass;
        shift[1] += centre[0] - down / mass;
      }
      raster(scale, shift);
    }

    function read() {
      drawPad();
      if (!strokes.length) return;
      normalise();
      for (let i = 0; i < x.length; i++) {
        const v = paper ? 1 - x[i] : x[i];
        x[i] = told.binarized ? Number(v > 0.5) : v;
      }
      z.set(encode(x, label));
      source(x, "your drawing, as the encoder sees it");
      show();
    }

    const place = (event) => {
      const box = $("pad").getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H];
    };
    $("pad").addEventListener("pointerdown", (event) => {
      $("pad").setPointerCapture(event.pointerId);
      strokes.push([place(event)]);
      later(read);
    });
    $("pad").addEventListener("pointermove", (event) => {
      if (!$("pad").hasPointerCapture(event.pointerId)) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) strokes.at(-1).push(place(part));
      later(read);
    });
    $("clear").addEventListener("click", () => {
      strokes.length = 0;
      drawPad();
    });
    $("clear").click();
  }

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
  $("draw-hint").textContent = "The encoder turns it into a code while you draw, and the decoder shows what the code still knows of it."
    + (told.binarized ? " This model knows black and white alone, so greys are made one or the other." : "");

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
})();
