"use strict";
(() => {
  // curves: name every mark, say what is pointed at, hide and show series
  const marks = JSON.parse(document.getElementById("marks").textContent);
  for (const [group, labels] of Object.entries(marks))
    document.querySelectorAll(`[id="${group}"] use`).forEach((mark, k) => {
      for (const [name, value] of [["role", "img"], ["tabindex", 0], ["aria-label", labels[k]]])
        mark.setAttribute(name, value);
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = labels[k];
      mark.append(title);
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
})();
