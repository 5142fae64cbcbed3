"use strict";
// Tokens come from prompts: whatever a library hands to innerHTML is shown as text and never parsed.
// CircuitsVis writes a token's spaces as &nbsp;, the one entity that is read; a token's own &nbsp; is kept apart by
// an invisible joiner when the props are read.
Object.defineProperty(Element.prototype, "innerHTML", {
  configurable: false,
  get() { return this.textContent; },
  set(value) { this.textContent = String(value).replaceAll("&nbsp;", "\u00a0"); },
});

(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (host) => JSON.parse(
    host.querySelector('script[type="application/json"]').textContent,
    (_, value) => (typeof value === "string" ? value.replaceAll("&nbsp;", "&\u2060nbsp;") : value),
  );
  const all = (selector, run) => document.querySelectorAll(selector).forEach(run);

  // Draw a block when it comes near the screen, so that a long page opens at once.
  function whenNear(host, draw) {
    const watcher = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      draw();
    }, { rootMargin: "400px" });
    watcher.observe(host);
  }

  function plot(host) {
    const figure = read(host);
    const themes = JSON.parse(document.getElementById("plot-theme").textContent);
    const view = host.querySelector(".canvas");
    const config = {
      displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"],
      toImageButtonOptions: { format: "svg", filename: host.dataset.plot },
    };
    const draw = () => {
      const theme = themes[dark.matches ? "dark" : "light"];
      for (const trace of figure.data) if (trace.type === "heatmap") trace.colorscale = theme.scales[trace.meta];
      return Plotly.react(view, figure.data, { ...figure.layout, template: theme.template }, config);
    };
    whenNear(host, () => {
      draw().then(() => { host.dataset.ready = "yes"; });
      dark.addEventListener("change", draw);
      host.nextElementSibling.querySelector("[data-svg]").addEventListener("click", () => {
        Plotly.downloadImage(view, { ...config.toImageButtonOptions, width: view.clientWidth, height: view.clientHeight });
      });
    });
  }

  function component(host) {
    whenNear(host, () => {
      const { name, props } = read(host);
      CircuitsVis.render(host.querySelector("[id]").id, CircuitsVis[name], props);
      host.dataset.ready = "yes";
    });
  }

  function grid(host) {
    const { tokens, names, largest, cells, causal } = read(host);
    const bytes = Uint8Array.from(atob(cells), (letter) => letter.charCodeAt(0));
    const size = tokens.length;
    const at = (head, query, key) => (bytes[(head * size + query) * size + key] / 255) * largest;
    const readout = host.querySelector(".readout");
    const view = host.querySelector(".paper > div").id;
    const textView = host.querySelector(".hover-text > div");
    const thumbs = host.querySelector(".thumbs");
    const rows = [...Array(size).keys()];
    // Tokens of words come without the spaces between them
    const spaced = tokens.some((token) => /^[\s\u0120\u2581]/.test(token));
    const text = tokens.map((token) => (!spaced && /^[\p{L}\p{N}]/u.test(token) ? ` ${token}` : token));

    function strongest(head) {
      let best = [-1, 0, 0];
      for (const query of rows) for (const key of rows) {
        if (query !== key && key > 0 && at(head, query, key) > best[0]) best = [at(head, query, key), query, key];
      }
      if (best[0] <= 0) return `${names[head]}: only the first token and the token itself`;
      const [weight, query, key] = best;
      // First strong isolates keep a right-to-left token from turning the sentence round.
      const quoted = (index) => `\u201c\u2068${tokens[index]}\u2069\u201d (${index})`;
      return `${names[head]}: strongest from ${quoted(query)} to ${quoted(key)}, ${weight.toFixed(2)}`;
    }

    function choose(head) {
      buttons.forEach((button, index) => {
        button.setAttribute("aria-pressed", index === head);
        button.tabIndex = index === head ? 0 : -1;
      });
      readout.textContent = strongest(head);
      const attention = rows.map((query) => rows.map((key) => Number(at(head, query, key).toFixed(4))));
      CircuitsVis.render(view, CircuitsVis.AttentionPattern, {
        tokens, attention, showAxisLabels: true, maskUpperTri: causal, minValue: 0, maxValue: largest, positiveColor: "#0b5a8f",
      });
      if (textView) CircuitsVis.render(textView.id, CircuitsVis.AttentionPatterns, { tokens: text, attention: [attention] });
      host.dataset.chosen = names[head];
    }

    function thumbnail(head) {
      const button = document.createElement("button");
      const canvas = document.createElement("canvas");
      button.type = "button";
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d");
      const image = context.createImageData(size, size);
      for (let index = 0; index < size * size; index += 1) {
        const share = bytes[head * size * size + index] / 255;
        image.data.set([255 - 244 * share, 255 - 165 * share, 255 - 112 * share, 255], index * 4);
      }
      context.putImageData(image, 0, 0);
      const name = document.createElement("span");
      name.textContent = names[head];
      button.append(canvas, name);
      button.addEventListener("click", () => choose(head));
      button.addEventListener("pointerenter", () => { readout.textContent = strongest(head); });
      button.addEventListener("focus", () => { readout.textContent = strongest(head); });
      return button;
    }

    const buttons = names.map((_, head) => thumbnail(head));
    thumbs.append(...buttons);
    thumbs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
      buttons.forEach((button, index) => { button.tabIndex = index === next ? 0 : -1; });
      buttons[next].focus();
    });
    thumbs.addEventListener("pointerleave", () => { readout.textContent = strongest(names.indexOf(host.dataset.chosen)); });
    choose(0);
    host.dataset.ready = "yes";
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const numeric = head.matches(".n");
      // Numbers start with the largest, text with A; a second click turns the order round.
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => {
        const cell = row.cells[column];
        if (!numeric) return cell.textContent;
        const number = cell.dataset.sort ?? cell.textContent;
        return number === "" ? null : Number(number.replace("inf", "Infinity"));
      };
      const compare = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (numeric ? a - b || 0 : a.localeCompare(b, "en"));
      };
      body.append(...[...body.rows].sort(compare));
    }));
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // A page shown inside another tells its height, as a file:// page cannot be measured from outside.
  function embedded() {
    document.documentElement.classList.add("embedded");
    const tell = () => parent.postMessage({ tinylensHeight: document.getElementById("main").offsetHeight }, "*");
    new ResizeObserver(tell).observe(document.getElementById("main"));
  }

  addEventListener("message", ({ source, data }) => {
    if (typeof data?.tinylensHeight !== "number") return;
    all("iframe", (frame) => {
      if (frame.contentWindow === source) frame.style.height = `${Math.min(data.tinylensHeight + 8, 4000)}px`;
    });
  });

  // A browser may bring an earlier choice back with the page, so what is shown follows the control from the start.
  function choice(host) {
    const select = host.querySelector("select");
    const options = host.querySelectorAll(":scope > .option");
    const show = () => options.forEach((option, index) => { option.hidden = index !== select.selectedIndex; });
    select.addEventListener("change", show);
    show();
  }

  all("[data-choice]", choice);
  all("[data-plot]", plot);
  all("[data-component]", component);
  all("[data-grid]", (host) => whenNear(host, () => grid(host)));
  all("table.sortable", sortable);
  all("[data-copy]", (button) => button.addEventListener("click", () => copy(button)));
  all("details.frame", (details) => details.addEventListener("toggle", () => {
    const frame = details.querySelector("iframe");
    if (details.open && !frame.src) frame.src = frame.dataset.src;
  }));
  if (location.hash === "#embedded" && parent !== window) embedded();
})();
