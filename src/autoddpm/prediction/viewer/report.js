"use strict";
// The two views: scan with map and outline, pseudo-healthy scan; one crosshair, one threshold.
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const options = { backColor: [0, 0, 0, 1], crosshairColor: [0.3, 0.9, 0.4, 0.8], dragAndDropEnabled: false, multiplanarLayout: 2, multiplanarShowRender: 0 };
  const image = (name, how) => niivue.NVImage.loadFromBase64({ base64: data.volumes[name], name: `${name}.nii.gz`, ...how });
  const grey = { colormap: "gray", cal_min: 0, cal_max: 255 };
  const view = async (id, more) => {
    const made = new niivue.Niivue({ ...options, ...more });
    await made.attachTo(id);
    return made;
  };

  // NiiVue's own words would give the scan's grey, 0 to 255, for its intensity.
  const tell = (where) => {
    const [x, y, z] = Array.from(where.mm, (side) => side.toFixed(1));
    const value = where.values[1]?.value ?? 0;
    at("place").textContent = `${x} mm to the right, ${y} to the front, ${z} up: map ${value.toPrecision(3)}`;
  };

  let left, right;
  try {
    left = await view("scan", { onLocationChange: tell });
    right = await view("healthy", {});
    left.addVolume(await image("scan", grey));
    left.addVolume(await image("map", { colormap: "inferno", opacity: 0.7, cal_min: data.threshold, cal_max: data.top }));
    left.addVolume(await image("outline", { colormap: "green", opacity: 1, cal_min: 0, cal_max: 1 }));
    right.addVolume(await image("pseudo_healthy", grey));
  } catch (error) {
    at("place").textContent = `This browser cannot show the volumes (${error.message}); the slices are below.`;
    document.body.dataset.failed = "true";
    return;
  }
  for (const one of [left, right]) {
    one.setSliceType(one.sliceTypeMultiplanar);
    one.scene.crosshairPos = one.mm2frac(data.centre, 0, true); // true: of an oblique scan too
    one.updateGLVolume();
    one.createOnLocationChange();
  }
  left.broadcastTo([right], { "2d": true, "3d": true });
  right.broadcastTo([left], { "2d": true, "3d": true });

  const map = left.volumes[1];
  const values = map.img;
  const show = (threshold) => {
    let count = 0;
    for (const value of values) if (value > threshold) count += 1;
    at("flagged").textContent = `${threshold.toPrecision(3)}: ${(count * data.voxel_ml).toFixed(2)} ml of the map are above`;
    map.cal_min = threshold;
    map.cal_max = Math.max(data.top, threshold * 1.01);
    left.updateGLVolume();
  };
  // The slider is quadratic: most of a map is near 0.
  const slider = at("threshold");
  const threshold = () => data.top * (slider.value / 1000) ** 2;
  slider.value = Math.round(1000 * Math.sqrt(Math.min(1, data.threshold / data.top)));
  slider.addEventListener("input", () => show(threshold()));
  at("map").addEventListener("change", (event) => left.setOpacity(1, event.target.checked ? 0.7 : 0));
  at("outline").addEventListener("change", (event) => left.setOpacity(2, event.target.checked ? 1 : 0));
  show(data.threshold);
  document.body.dataset.ready = "true";
})();
