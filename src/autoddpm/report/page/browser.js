// The slice browser's one callback: after a widget changed, make the list, the threshold and the picture follow.
// The widgets are given by their names; `cb_obj` is the one that changed, or a click on it. A pixel whose map has the
// code c is at least levels[c - 1] and below levels[c]: the threshold levels[k] flags it if c > k.
const data = (window.autoddpm_slices ??= JSON.parse(document.getElementById("slice-data").textContent));
const moved = cb_obj.origin ?? cb_obj;
const [height, width] = data.size, method = Number(row.value), { levels, presets, healthy, top } = data.rows[method];

async function pixels(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function edges(inside) {
  const lines = { x0: [], y0: [], x1: [], y1: [] };
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[y * width + x] > 0;
  const add = (...ends) => Object.keys(lines).forEach((key, n) => lines[key].push(ends[n]));
  for (let y = 0; y <= height; y++) {
    for (let x = 0; x <= width; x++) {
      if (at(x, y) !== at(x - 1, y)) add(x, y, x, y + 1);
      if (at(x, y) !== at(x, y - 1)) add(x, y, x + 1, y);
    }
  }
  return lines;
}

function fill(source, values) {
  source.data.image[0].set(values);
  source.change.emit();
}

function list() {
  const best = (n) => data.slices[n].rows[method].dice;
  const kept = sizes.active.map((n) => data.groups[n]);
  const found = [...data.slices.keys()].filter((n) => kept.includes(data.slices[n].group));
  const sign = sort.value === "best" ? -1 : 1; // slices without a lesion have no Dice: last
  found.sort((a, b) => (sort.value === "id"
    ? data.slices[a].id.localeCompare(data.slices[b].id)
    : (best(a) === null) - (best(b) === null) || sign * (best(a) - best(b))));
  slice.options = found.map((n) => {
    const { id, group, pixels } = data.slices[n];
    return [String(n), best(n) === null ? `${id}, ${group}` : `${id}, ${group}, ${pixels} px, Dice ${best(n)}`];
  });
  const names = slice.options.map(([n]) => n);
  if (!names.includes(slice.value)) slice.value = names[0] ?? "";
}

async function draw() {
  const turn = (window.autoddpm_turn = (window.autoddpm_turn ?? 0) + 1);
  const k = threshold.value, stage = data.stages[show.active], one = data.slices[Number(slice.value)];
  if (slice.value === "" || !one) {
    said.text = "No slice of these sizes.";
    picture.visible = false;
    return;
  }
  const of = one.rows[method];
  const [input, lesion, codes] = await Promise.all([one.input, one.lesion, of.map].map(pixels));
  const other = of[stage] && stage !== "map" ? await pixels(of[stage]) : null;
  if (turn !== window.autoddpm_turn) return; // a later change draws
  const flagged = codes.map((code) => code > k);
  let [hits, number, all] = [0, 0, 0];
  flagged.forEach((is, n) => { number += is; all += lesion[n]; hits += is && lesion[n]; });
  const binary = (mask) => mask.map((value) => 255 * value);
  const grey = { input: input, lesion: binary(lesion), mask: other && binary(other), reconstruction: other }[stage];
  colours.high = top;
  heat_image.visible = stage === "map";
  grey_image.visible = !heat_image.visible;
  if (stage === "map") fill(heat, Float32Array.from(codes, (code) => levels[Math.max(0, code - 1)] * (code > 0)));
  else fill(grey_source, grey ?? input);
  lesion_edges.data = edges(lesion);
  flagged_edges.data = edges(flagged);
  picture.visible = true;
  const share = (value) => `${(100 * value).toPrecision(2)} %`;
  said.text = [
    `${one.id}: ${one.group === "healthy" ? "no lesion" : `${one.group} lesion, ${one.pixels} pixels`}.`,
    grey || stage === "map" ? "" : `${row.options[method][1]} has no ${stage}: the input is shown.`,
    `Flagged: ${number} pixels${all ? `, of the lesion ${hits}; Dice ${(200 * hits / (number + all)).toFixed(1)}` : ""}`
      + (of.dice === null ? "." : `, at most ${of.dice}.`),
    healthy ? `This threshold flags ${share(healthy[k])} of the pixels of all healthy slices.` : "",
  ].filter(Boolean).join(" ");
}

if (moved === next || moved === previous) {
  const places = slice.options.map(([n]) => n), step = moved === next ? 1 : -1;
  slice.value = places.at((places.indexOf(slice.value) + step) % places.length) ?? "";
  return; // the list's own change draws
}
if (moved === row || moved === preset) {
  const name = preset.value in presets ? preset.value : Object.keys(presets)[0];
  if (preset.value !== "own" && name) {
    preset.value = name;
    threshold.value = presets[name];
  }
} else if (moved === threshold && presets[preset.value] !== threshold.value) {
  preset.value = "own";
}
threshold.value = Math.min(threshold.value, levels.length - 1);
label.text = `Threshold: ${levels[threshold.value].toPrecision(3)}`;
if ([row, sizes, sort].includes(moved) || !slice.options.length) list();
draw();
