// Draw the charts in the page's colours, and again in others if these change: [{name, data, is_themed}, ...].
const dark = matchMedia("(prefers-color-scheme: dark)");
const colours = JSON.parse(document.getElementById("dark-colours").textContent); // of light mode -> of dark mode

async function draw(again) {
  const coloured = (key, value) => (dark.matches && Object.hasOwn(colours, value) ? colours[value] : value);
  for (const { name, data, is_themed } of JSON.parse(document.getElementById("chart-data").textContent, coloured)) {
    if (again && !is_themed) continue;
    const place = document.getElementById(name);
    place.replaceChildren();
    const drawn = await Bokeh.embed.embed_item(data, place);
    for (const { model } of drawn.roots ?? drawn) {
      model.document.get_model_by_name("start")?.properties.value.change.emit();
    }
  }
}

dark.addEventListener("change", () => draw(true));
draw(false);
