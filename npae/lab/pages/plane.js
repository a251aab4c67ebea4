// The plane of codes of two numbers; a part of the page's one script, see explorer.html.

const HUES = ["#4c8fd0", "#f08c2e", "#3fa656", "#e0525a", "#9a6fd0", "#a9765a", "#e07fc0", "#8f959e", "#b8a832", "#34b3c0"];

// one scale for both axes, and a margin around the codes z1, z2, z1, z2, ...: [[low, high], [low, high]]
function square(codes) {
  const ends = [0, 1].map((k) => {
    const values = codes.filter((_, i) => i % 2 === k);
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
  const spans = square([...codes, ...told.home]), edge = { left: 38, right: 10, top: 10, bottom: 28 };
  const ground = $("ground").getContext("2d"), marker = $("marker").getContext("2d");
  const N = 18, sheet = document.createElement("canvas"), stamp = document.createElement("canvas");
  const paintStamp = painter(stamp), cell = Math.min(Math.max(H, W), 48); // the plane is square, and so are its cells
  let size = 0, pictures = false, drawn = 0, held = false;

  const names = [...new Set(labels ?? [])].sort((a, b) => a - b);
  const hue = (name) => {
    const k = names.indexOf(name);
    if (k < 0) return HUES[0];
    return names.length <= HUES.length ? HUES[k] : `hsl(${(360 * k) / names.length} 60% 55%)`;
  };

  // from codes to places in pixels of the page, and back; z2 grows upwards
  const [[left, right], [bottom, top]] = spans;
  const wide = () => size - edge.left - edge.right, tall = () => size - edge.top - edge.bottom;
  const at = (z1, z2) => [edge.left + (wide() * (z1 - left)) / (right - left),
    edge.top + (tall() * (top - z2)) / (top - bottom)];
  const codeAt = (x, y) => [clamp(left + ((x - edge.left) / wide()) * (right - left), left, right),
    clamp(top - ((y - edge.top) / tall()) * (top - bottom), bottom, top)];

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
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return Array.from({ length: last - first + 1 }, (_, i) => [(first + i) * step, digits]);
  }

  function draw() {
    ground.clearRect(0, 0, size, size);
    ground.font = "12px system-ui, sans-serif";
    ground.textBaseline = "middle";
    for (const axis of [0, 1]) for (const [value, digits] of ticks(spans[axis])) {
      const [x, y] = axis ? at(left, value) : at(value, bottom);
      ground.fillStyle = colour("--grid");
      if (axis) ground.fillRect(edge.left, y, wide(), 1);
      else ground.fillRect(x, edge.top, 1, tall());
      ground.fillStyle = colour("--soft");
      ground.textAlign = axis ? "right" : "center";
      ground.fillText(number(value, digits), axis ? edge.left - 8 : x, axis ? y : size - edge.bottom / 2);
    }
    if (pictures) {
      ground.imageSmoothingEnabled = false;
      ground.drawImage(sheet, edge.left, edge.top, wide(), tall());
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
      const z1 = left + ((j + 0.5) / N) * (right - left), z2 = top - ((row + 0.5) / N) * (top - bottom);
      paintStamp(decode([z1, z2], label));
      context.drawImage(stamp, j * cell, row * cell, cell, cell);
    }
    draw();
    requestAnimationFrame(() => fill(turn, row + 1));
  }

  function view(asPictures) {
    pictures = asPictures;
    if (!size) resize();
    $("view-codes").setAttribute("aria-pressed", !pictures);
    $("view-pictures").setAttribute("aria-pressed", pictures);
    sheet.width = sheet.height = N * cell;
    $("legend").hidden = pictures || !names.length;
    hold(held);
    drawn++;
    if (pictures) fill();
    draw();
  }

  // a ring at the code, and the decoded picture beside it
  function mark() {
    const [x, y] = at(clamp(z[0], left, right), clamp(z[1], bottom, top));
    marker.clearRect(0, 0, size, size);
    for (const [width, name] of [[5, "--card"], [2.5, "--accent"]]) {
      marker.lineWidth = width;
      marker.strokeStyle = colour(name);
      marker.beginPath();
      marker.arc(x, y, 7, 0, 7);
      marker.stroke();
    }
    const h = 88, w = (h * W) / H, gap = 16;
    const place = [x + gap + w > size - 4 ? x - gap - w : x + gap, clamp(y - gap - h, 4, size - h - 4), w, h];
    marker.imageSmoothingEnabled = false;
    marker.drawImage($("decoded"), ...place);
    marker.lineWidth = 2;
    marker.strokeStyle = colour(held ? "--accent" : "--line");
    marker.strokeRect(...place);
  }

  function hold(to) {
    held = to;
    $("hint").textContent = held ? "Held: click the plane once more to let go."
      : `${$("legend").hidden ? "Each place is decoded" : "Each dot is a test picture's code"}. Move over the plane: `
        + "the decoder draws what lies there. Click to hold.";
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
