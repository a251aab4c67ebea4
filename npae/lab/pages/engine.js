"use strict";
// A net of npae in the browser: each layer's config becomes a step { shape, run(x) -> y } over Float32Arrays.
// A picture is rows, then columns, then channels (HWC), one after another. Every step writes into its own y, made once:
// a decode allocates nothing, and y is valid until the next run.
const engine = (() => {
  const pair = (size) => (typeof size === "number" ? [size, size] : size);
  const count = (shape) => shape.reduce((a, b) => a * b, 1);

  // ---- where windows lie, along one axis: for each output, a list of [input, place in the kernel, input, place, ...]

  // npae/kernels/geometry.py: 'same' gives ceil(n / s) outputs, and the odd zero stands behind
  function windows(n, k, s, padding) {
    if (padding === "same") {
      const out = Math.ceil(n / s);
      return { out, front: Math.max((out - 1) * s + k - n, 0) >> 1 };
    }
    const front = padding === "valid" ? 0 : padding;
    return { out: Math.floor((n + 2 * front - k) / s) + 1, front };
  }

  // output i meets the inputs a = s i + u - p
  function windowTaps(n, k, s, padding) {
    const { out, front } = windows(n, k, s, padding);
    return Array.from({ length: out }, (_, i) => {
      const taps = [];
      for (let u = 0; u < k; u++) {
        const a = s * i + u - front;
        if (a >= 0 && a < n) taps.push(a, u);
      }
      return Int32Array.from(taps);
    });
  }

  // the adjoint: output a is met by the inputs i with s i + u - p = a
  function transposedTaps(n, k, s, front, out) {
    return Array.from({ length: out }, (_, a) => {
      const taps = [];
      for (let i = 0; i < n; i++) {
        const u = a + front - s * i;
        if (u >= 0 && u < k) taps.push(i, u);
      }
      return Int32Array.from(taps);
    });
  }

  // ---- the one loop that takes the time: Dense, convolutions and their transposes are all this sum

  // y[i,j,o] = b[o] + sum over taps (a, u) of row i, taps (e, v) of column j, and c:  x[a,e,c] W[u,v,c,o]
  // Channels that are zero are left out: after a ReLU, and on a drawing's paper, that is half of the work or more.
  function gather(x, width, W, kw, b, y, rows, cols, cin, cout, live, many) {
    for (let pixel = 0, from = 0; from < x.length; pixel++, from += cin) {
      let n = 0;
      for (let c = 0; c < cin; c++) if (x[from + c] !== 0) live[from + n++] = c;
      many[pixel] = n;
    }
    let at = 0;
    for (const row of rows) {
      for (const col of cols) {
        for (let o = 0; o < cout; o++) y[at + o] = b[o];
        for (let m = 0; m < row.length; m += 2) {
          for (let n = 0; n < col.length; n += 2) {
            const pixel = row[m] * width + col[n], from = pixel * cin, end = from + many[pixel];
            const block = (row[m + 1] * kw + col[n + 1]) * cin * cout;
            let k = from;
            for (; k + 3 < end; k += 4) { // four channels a pass over y: a quarter of its loads and stores
              const c0 = live[k], c1 = live[k + 1], c2 = live[k + 2], c3 = live[k + 3];
              const p = x[from + c0], q = x[from + c1], r = x[from + c2], s = x[from + c3];
              const w0 = block + c0 * cout, w1 = block + c1 * cout, w2 = block + c2 * cout, w3 = block + c3 * cout;
              for (let o = 0; o < cout; o++) {
                y[at + o] += p * W[w0 + o] + q * W[w1 + o] + r * W[w2 + o] + s * W[w3 + o];
              }
            }
            for (; k < end; k++) {
              const p = x[from + live[k]], w = block + live[k] * cout;
              for (let o = 0; o < cout; o++) y[at + o] += p * W[w + o];
            }
          }
        }
        at += cout;
      }
    }
  }

  // ---- activations, number by number

  const ACTIVATIONS = {
    Identity: () => null,
    ReLU: () => (v) => (v <= 0 ? 0 : v),
    LeakyReLU: ({ alpha }) => (v) => (v <= 0 ? alpha * v : v),
    Sigmoid: () => sigmoid,
    Tanh: () => Math.tanh,
    Softplus: () => (v) => (v <= 0 ? 0 : v) + Math.log1p(Math.exp(-Math.abs(v))),
  };

  function sigmoid(v) {
    const e = Math.exp(-Math.abs(v)); // at most 1: nothing overflows
    return (v >= 0 ? 1 : e) / (1 + e);
  }

  function bend(y, f) {
    if (f) for (let i = 0; i < y.length; i++) y[i] = f(y[i]);
    return y;
  }

  // ---- what the layers with weights share: y = f(gather + b)

  const ONE = [Int32Array.of(0, 0)]; // the taps of a Dense: a picture of one pixel

  function affine(layer, get, { inputs, shape, width = 1, W, kw = 1, rows = ONE, cols = ONE, cin, cout }) {
    const b = get(layer.b).values;
    const f = ACTIVATIONS[layer.activation.layer](layer.activation);
    const y = new Float32Array(count(shape));
    const live = new Int32Array(inputs), many = new Int32Array(inputs / cin);
    return {
      shape,
      run: (x) => {
        gather(x, width, W, kw, b, y, rows, cols, cin, cout, live, many);
        return bend(y, f);
      },
    };
  }

  // W[..., a, b] -> W[..., b, a]
  function transposed(W, a, b) {
    const turned = new Float32Array(W.length);
    for (let block = 0; block < W.length; block += a * b) {
      for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) turned[block + j * a + i] = W[block + i * b + j];
    }
    return turned;
  }

  function transposedConv(layer, [h, w, cin], get) {
    const { values, shape: [kh, kw, cout] } = get(layer.W); // (kh, kw, out, in)
    const taps = [[h, kh], [w, kw]].map(([n, k], axis) => {
      const s = pair(layer.stride)[axis], p = layer.padding;
      const out = p === "same" ? n * s : (n - 1) * s + k - (p === "valid" ? 0 : 2 * p);
      return transposedTaps(n, k, s, windows(out, k, s, p).front, out);
    });
    return affine(layer, get, {
      inputs: h * w * cin, shape: [taps[0].length, taps[1].length, cout], width: w, W: transposed(values, cout, cin), kw,
      rows: taps[0], cols: taps[1], cin, cout,
    });
  }

  function pool(layer, [h, w, channels], reduce) {
    const [kh, kw] = pair(layer.pool_size), [sh, sw] = pair(layer.stride);
    const rows = windowTaps(h, kh, sh, layer.padding), cols = windowTaps(w, kw, sw, layer.padding);
    const y = new Float32Array(rows.length * cols.length * channels);
    const largest = reduce === "max";
    const run = (x) => {
      let at = 0;
      for (const row of rows) {
        for (const col of cols) {
          for (let c = 0; c < channels; c++, at++) {
            let sum = 0, most = -Infinity;
            for (let m = 0; m < row.length; m += 2) {
              for (let n = 0; n < col.length; n += 2) {
                const v = x[(row[m] * w + col[n]) * channels + c];
                sum += v; // zeros of the padding add nothing
                most = Math.max(most, v); // and are not among the taps, so they never win
              }
            }
            y[at] = largest ? most : sum / (kh * kw);
          }
        }
      }
      return y;
    };
    return { shape: [rows.length, cols.length, channels], run };
  }

  // output i is mixed from inputs low and high; nearest takes the first alone
  function mixes(n, factor, mode) {
    return Array.from({ length: n * factor }, (_, i) => {
      if (mode === "nearest") return { low: Math.floor(i / factor), high: Math.floor(i / factor), share: 0 };
      const t = Math.min(Math.max((i + 0.5) / factor - 0.5, 0), n - 1);
      const low = Math.floor(t);
      return { low, high: Math.min(low + 1, n - 1), share: t - low };
    });
  }

  const same = (layer, shape) => ({ shape, run: (x) => x });
  const bent = (layer, shape) => {
    const f = ACTIVATIONS[layer.layer](layer), y = new Float32Array(count(shape));
    return { shape, run: (x) => { y.set(x); return bend(y, f); } };
  };

  // ---- one maker a layer: (config, shape of x, parameters by name) -> { shape of y, run }

  const LAYERS = {
    Sequential(layer, shape, get) {
      const steps = [];
      for (const child of layer.layers) {
        steps.push(make(child, shape, get));
        shape = steps.at(-1).shape;
      }
      return { shape, run: (x) => steps.reduce((y, step) => step.run(y), x) };
    },
    Dense(layer, shape, get) {
      const { values: W, shape: [cin, cout] } = get(layer.W);
      return affine(layer, get, { inputs: cin, shape: [cout], W, cin, cout });
    },
    TiedDense(layer, shape, get) {
      const { values, shape: [cout, cin] } = get(layer.W);
      return affine(layer, get, { inputs: cin, shape: [cout], W: transposed(values, cout, cin), cin, cout });
    },
    Conv2d(layer, [h, w], get) {
      const { values: W, shape: [kh, kw, cin, cout] } = get(layer.W);
      const [sh, sw] = pair(layer.stride);
      const rows = windowTaps(h, kh, sh, layer.padding), cols = windowTaps(w, kw, sw, layer.padding);
      const shape = [rows.length, cols.length, cout];
      return affine(layer, get, { inputs: h * w * cin, shape, width: w, W, kw, rows, cols, cin, cout });
    },
    ConvTranspose2d: transposedConv,
    TiedConvTranspose2d: transposedConv,
    // each x stands twice along an axis, so two taps of W are added beforehand: V[k] = W[K-1-k] + W[K-k]
    UpsampleConv2d(layer, [h, w], get) {
      const { values: W, shape: [kh, kw, cin, cout] } = get(layer.W);
      const block = cin * cout, V = new Float32Array((kh + 1) * (kw + 1) * block);
      for (let u = 0; u < kh; u++) for (let v = 0; v < kw; v++) {
        for (const k of [kh - 1 - u, kh - u]) for (const l of [kw - 1 - v, kw - v]) {
          const to = (k * (kw + 1) + l) * block, from = (u * kw + v) * block;
          for (let i = 0; i < block; i++) V[to + i] += W[from + i];
        }
      }
      return affine(layer, get, {
        inputs: h * w * cin, shape: [2 * h, 2 * w, cout], width: w, W: V, kw: kw + 1, cin, cout,
        rows: transposedTaps(h, kh + 1, 2, kh >> 1, 2 * h), cols: transposedTaps(w, kw + 1, 2, kw >> 1, 2 * w),
      });
    },
    MaxPool2d: (layer, shape) => pool(layer, shape, "max"),
    AvgPool2d: (layer, shape) => pool(layer, shape, "mean"),
    Upsample2d(layer, [h, w, channels]) {
      const [fh, fw] = pair(layer.factor);
      const rows = mixes(h, fh, layer.mode), cols = mixes(w, fw, layer.mode);
      const y = new Float32Array(rows.length * cols.length * channels);
      const run = (x) => {
        let at = 0;
        for (const r of rows) for (const q of cols) for (let c = 0; c < channels; c++) {
          const from = (i, j) => x[(i * w + j) * channels + c];
          const low = (1 - q.share) * from(r.low, q.low) + q.share * from(r.low, q.high);
          const high = (1 - q.share) * from(r.high, q.low) + q.share * from(r.high, q.high);
          y[at++] = (1 - r.share) * low + r.share * high;
        }
        return y;
      };
      return { shape: [rows.length, cols.length, channels], run };
    },
    Flatten: (layer, shape) => ({ shape: [count(shape)], run: (x) => x }),
    Reshape: (layer) => ({ shape: layer.shape, run: (x) => x }),
    Shift(layer, shape) {
      const offset = Float32Array.from(layer.offset.flat(Infinity)), y = new Float32Array(offset.length);
      const run = (x) => {
        for (let i = 0; i < y.length; i++) y[i] = x[i] + offset[i];
        return y;
      };
      return { shape, run };
    },
    ReLU: bent, LeakyReLU: bent, Sigmoid: bent, Tanh: bent, Softplus: bent,
    Identity: same,
    GaussianNoise: same, MaskingNoise: same, Dropout: same, // quiet outside of training
  };

  function make(layer, shape, get) {
    if (!Object.hasOwn(LAYERS, layer.layer)) throw new Error(`the page does not know the layer ${layer.layer}`);
    return LAYERS[layer.layer](layer, shape, get);
  }

  // ---- numbers as the page keeps them: base64 of little-endian bytes, whole numbers with a scale

  const KINDS = { "<f4": Float32Array, "<i2": Int16Array, "|i1": Int8Array, "|u1": Uint8Array };

  function unpack({ dtype, scale, data }) {
    const text = atob(data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const values = Float32Array.from(new KINDS[dtype](bytes.buffer));
    if (scale !== 1) for (let i = 0; i < values.length; i++) values[i] *= scale;
    return values;
  }

  // params: { name: { shape, dtype, scale, data } }, each unpacked once, though two layers may share it
  function parameters(params) {
    const known = new Map();
    return (name) => {
      if (!known.has(name)) known.set(name, { shape: params[name].shape, values: unpack(params[name]) });
      return known.get(name);
    };
  }

  return { LAYERS, make, parameters, sigmoid, unpack };
})();
