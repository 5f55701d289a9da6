"use strict";
(() => {
  const svg = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const titled = (element, text) => { element.append(svg("title", {}, text)); return element; };
  const shown = (value) => (value === null ? "\u2014" : Number(value.toPrecision(3)).toString());

  // curves: name every mark, say what is pointed at, hide and show series
  const marks = JSON.parse(document.getElementById("marks").textContent);
  for (const [group, labels] of Object.entries(marks))
    document.querySelectorAll(`[id="${group}"] use`).forEach((mark, k) => {
      for (const [name, value] of [["role", "img"], ["tabindex", 0], ["aria-label", labels[k]]])
        mark.setAttribute(name, value);
      titled(mark, labels[k]);
    });
  for (const figure of document.querySelectorAll("figure.panel")) {
    const readout = figure.querySelector(".readout");
    for (const box of figure.querySelectorAll("input[data-hides]"))
      box.addEventListener("change", () => {
        for (const group of figure.querySelectorAll(`[id="${box.dataset.hides}"], [id="${box.dataset.hides}-bars"]`))
          group.style.display = box.checked ? "" : "none";
      });
    const say = (event) => {
      const label = event.target.getAttribute("aria-label");
      if (event.target.tagName === "use" && label) readout.textContent = label;
    };
    figure.addEventListener("focusin", say);
    figure.addEventListener("pointerover", say);
  }

  // the slider: maps of Q and bars of the test error, on scales that all its stops share
  const { stops, label } = JSON.parse(document.getElementById("stops").textContent);
  const slider = document.getElementById("slider");
  if (!slider) return;
  const usual = (matrix, i, j) => (matrix.length !== matrix[0].length || i === j ? 1 : 0); // at infinite width
  const away = stops.flatMap((s) => s.maps.flatMap((m) =>
    m.matrix.flatMap((row, i) => row.map((q, j) => Math.abs(q - usual(m.matrix, i, j))))));
  const largest = Math.max(...away, 1e-12);
  const total = (bar) => (bar.bias === null || bar.variance === null ? null : bar.bias + bar.variance);
  const longest = Math.max(...stops.flatMap((s) => s.bars.map((b) => total(b) ?? 0)), 1e-12);

  const shade = (difference) => { // blue below, white at, red above infinite width
    const t = Math.sqrt(Math.min(1, Math.abs(difference) / largest));
    const end = difference > 0 ? [178, 24, 43] : [33, 102, 172];
    return [`rgb(${end.map((c) => Math.round(255 + (c - 255) * t)).join(",")})`, t > 0.75 ? "#fff" : "#000"];
  };
  const map = ({ name, matrix }) => {
    const [rows, columns] = [matrix.length, matrix[0].length];
    const size = Math.min(200 / columns, 80);
    const picture = svg("svg", {
      viewBox: `-1 -1 202 ${rows * size + 2}`, role: "img", "data-map": name,
      "aria-label": `Q of ${name}: ` + (rows * columns <= 36
        ? matrix.map((row) => row.map(shown).join(" ")).join("; ")
        : `${rows} by ${columns}, from ${shown(Math.min(...matrix.flat()))} to ${shown(Math.max(...matrix.flat()))}`),
    });
    matrix.forEach((row, i) => row.forEach((q, j) => {
      const [fill, ink] = shade(q - usual(matrix, i, j));
      const box = { x: j * size, y: i * size, width: size, height: size, fill, stroke: "#bbb", "data-q": q };
      picture.append(titled(svg("rect", box), `${name}, Q ${i + 1},${j + 1} = ${q}`));
      if (columns <= 5)
        picture.append(svg("text", {
          x: (j + 0.5) * size, y: (i + 0.5) * size + 5, "text-anchor": "middle",
          style: `fill:${ink};font-size:${Math.min(14, size * 0.29)}px`,
        }, shown(q)));
    }));
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(picture, caption);
    return figure;
  };
  const bars = (list) => {
    const picture = svg("svg", { viewBox: `0 0 480 ${list.length * 44}`, role: "group", "aria-label": "Test error" });
    list.forEach((bar, k) => {
      const [y, sum] = [k * 44, total(bar)];
      const numbers = sum === null ? "no result" : `${shown(sum)}${bar.se ? ` \u00b1 ${bar.se.toPrecision(1)}` : ""}`;
      const text = `${bar.name}: test error ${numbers}, bias ${shown(bar.bias)}, variance ${shown(bar.variance)}`;
      const group = svg("g", { role: "img", "aria-label": text, tabindex: 0, "data-bar": bar.name, "data-total": sum });
      group.append(svg("text", { x: 0, y: y + 13 }, `${bar.name}: ${numbers}`));
      const scale = 478 / longest;
      if (sum !== null) {
        group.append(svg("rect", { x: 0, y: y + 19, width: bar.bias * scale, height: 16, fill: "#0072B2" }));
        group.append(svg("rect", {
          x: bar.bias * scale, y: y + 19, width: Math.max(0, bar.variance) * scale, height: 16, fill: "#9ecae1",
        }));
      }
      picture.append(titled(group, text));
    });
    return picture;
  };
  const show = () => {
    const stop = stops[slider.value];
    document.getElementById("stop-label").textContent = `${label} ${stop.label}`;
    slider.setAttribute("aria-valuetext", `${label} ${stop.label}`);
    document.getElementById("maps").replaceChildren(...stop.maps.map(map));
    document.getElementById("bars").replaceChildren(bars(stop.bars));
  };
  slider.addEventListener("input", show);
  show();
})();
