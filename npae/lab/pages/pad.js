// The drawing pad; a part of the page's one script, see explorer.html.
// Strokes are kept as lines, so that they can be drawn again at the encoder's size and place.

const SIDE = 560; // the pad's own pixels: about twice what is shown, for sharp screens

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
  const x = new Float32Array(H * W), strokes = [];
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
