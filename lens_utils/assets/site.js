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

  // Many cells come as one byte each, without what is blank at the end of a row.
  function unpacked({ packed, columns, widths, low, step }) {
    const bytes = atob(packed);
    let at = 0;
    return widths.map((width) => [...Array(columns).keys()].map((column) => {
      const code = column < width ? bytes.charCodeAt(at++) : 255;
      return code === 255 ? null : Number((low + step * code).toPrecision(3));
    }));
  }

  function plot(host) {
    const figure = read(host);
    for (const trace of figure.data) if (trace.z?.packed !== undefined) trace.z = unpacked(trace.z);
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

  // One button of a group is in the tab order; arrow keys move on from it.
  function roving(group, buttons) {
    const stop = (chosen) => buttons.forEach((button, index) => { button.tabIndex = index === chosen ? 0 : -1; });
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
      stop(next);
      buttons[next].focus();
    });
    stop(0);
    return stop;
  }

  function named(tag, text, parent) {
    const made = document.createElement(tag);
    made.textContent = text;
    parent?.append(made);
    return made;
  }

  const brief = (number) => String(Number(number.toPrecision(3)));

  function grid(host) {
    const { tokens, names, groups, largest, cells, zero, steps, causal } = read(host);
    const bytes = Uint8Array.from(atob(cells), (letter) => letter.charCodeAt(0));
    const size = tokens.length;
    const rows = [...Array(size).keys()];
    const at = (head, query, key) => ((bytes[(head * size + query) * size + key] - zero) / steps) * largest[head];
    const [readout, thumbs, words, told, scale, direction] =
      [".readout", ".thumbs", ".words", ".told", "[data-scale]", "[data-direction]"].map((part) => host.querySelector(part));
    const view = host.querySelector(".paper > div").id;
    const overall = Math.max(...largest) || 1;
    const top = (head) => (scale.value === "own" && largest[head]) || overall;
    // First strong isolates keep a right-to-left token from turning the sentence round.
    const quoted = (index) => `\u201c\u2068${tokens[index]}\u2069\u201d (${index})`;
    let chosen = 0;
    let pointed = null;
    let kept = null;

    function strongest(head) {
      let best = [0, 0, 0];
      for (const query of rows) for (const key of rows) {
        const weight = at(head, query, key);
        if (query !== key && key > 0 && Math.abs(weight) > Math.abs(best[0])) best = [weight, query, key];
      }
      return best;
    }

    function summary(head) {
      const [weight, query, key] = strongest(head);
      if (!weight) return `${names[head]}: only the first token and the token itself`;
      return `${names[head]}: strongest from ${quoted(query)} to ${quoted(key)}, ${brief(weight)}`;
    }

    // The text: each token as dark as its weight for the one that is pointed at, or the head's most telling one.
    function tell() {
      const index = pointed ?? kept ?? (strongest(chosen)[1] || size - 1);
      const from = direction.value === "from";
      const weights = rows.map((other) => (from ? at(chosen, index, other) : at(chosen, other, index)));
      const most = Math.max(...weights.map(Math.abs)) || 1;
      letters.forEach((button, other) => {
        button.style.setProperty("--weight", Math.abs(weights[other]) / most);
        button.classList.toggle("strong", Math.abs(weights[other]) / most > 0.6);
        button.classList.toggle("minus", weights[other] < 0);
        button.classList.toggle("pointed", other === index);
        button.title = `${other}: ${brief(weights[other])}`;
      });
      const listed = rows.filter((other) => weights[other]).sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a]));
      const first = listed.slice(0, 3).map((other) => `${quoted(other)} ${brief(weights[other])}`).join(", ");
      const verb = from ? "attends to" : "is attended to by";
      told.textContent = `${names[chosen]}: ${quoted(index)} ${verb} ${first || "nothing"}`;
    }

    function paint(head) {
      const context = buttons[head].querySelector("canvas").getContext("2d");
      const image = context.createImageData(size, size);
      for (let index = 0; index < size * size; index += 1) {
        const share = ((bytes[head * size * size + index] - zero) / steps) * largest[head] / top(head);
        const [red, green, blue] = share < 0 ? [42, 161, 255] : [244, 165, 112];
        const part = Math.abs(share);
        image.data.set([255 - red * part, 255 - green * part, 255 - blue * part, 255], index * 4);
      }
      context.putImageData(image, 0, 0);
    }

    function choose(head) {
      chosen = head;
      buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === head));
      stop(head);
      readout.textContent = summary(head);
      tell();
      const attention = rows.map((query) => rows.map((key) => Number(at(head, query, key).toPrecision(4))));
      CircuitsVis.render(view, CircuitsVis.AttentionPattern, {
        tokens, attention, showAxisLabels: true, maskUpperTri: causal,
        minValue: -top(head), maxValue: top(head), positiveColor: "#0b5a8f", negativeColor: "#d55e00",
      });
      host.dataset.chosen = names[head];
    }

    function thumbnail(head) {
      if (groups[head] && groups[head] !== groups[head - 1]) named("p", groups[head], thumbs);
      const button = named("button", "", thumbs);
      const canvas = named("canvas", "", button);
      button.type = "button";
      canvas.width = canvas.height = size;
      named("span", names[head], button);
      button.addEventListener("click", () => choose(head));
      button.addEventListener("pointerenter", () => { readout.textContent = summary(head); });
      button.addEventListener("focus", () => { readout.textContent = summary(head); });
      return button;
    }

    function letter(token, index) {
      const button = named("button", token, words);
      const point = () => { pointed = index; tell(); };
      button.type = "button";
      button.addEventListener("pointerenter", point);
      button.addEventListener("focus", point);
      button.addEventListener("click", () => {
        kept = kept === index ? null : index;
        letters.forEach((other, place) => other.toggleAttribute("data-kept", place === kept));
        point();
      });
      return button;
    }

    words.classList.toggle("spaced", !tokens.some((token) => /^\s/.test(token)));
    const letters = tokens.map(letter);
    const buttons = names.map((_, head) => thumbnail(head));
    const stop = roving(thumbs, buttons);
    roving(words, letters);
    thumbs.addEventListener("pointerleave", () => { readout.textContent = summary(chosen); });
    words.addEventListener("pointerleave", () => { pointed = null; tell(); });
    direction.addEventListener("change", tell);
    scale.addEventListener("change", () => { buttons.forEach((_, head) => paint(head)); choose(chosen); });
    buttons.forEach((_, head) => paint(head));
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
