"use strict";
// Everything here makes what the page already shows easier to explore; texts are only ever set as
// text, never as HTML.
const data = JSON.parse(document.getElementById("report-data").textContent);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const clips = (count) => `${count} clip${count === 1 ? "" : "s"}`;

// ------------------------------------------------------------------------------------- tables

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  for (const [column, head] of heads.entries()) {
    const button = head.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.classList.contains("number") && head.dataset.first !== "ascending"
        ? "descending" : "ascending";
      const direction = before === "ascending" ? "descending"
        : before === "descending" ? "ascending" : first;
      for (const other of heads) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const numeric = head.classList.contains("number");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      const compare = numeric ? (a, b) => a - b
        : (a, b) => a.localeCompare(b, undefined, { numeric: true });
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === ""); // nothing known: last, either way
        return sign * compare(a, b);
      });
      body.append(...rows.map(([, row]) => row));
    });
  }
}

for (const input of document.querySelectorAll("input[data-filters]")) {
  const table = document.getElementById(input.dataset.filters);
  const count = document.getElementById(`${input.dataset.filters}-count`);
  const name = (row) => row.querySelector("th").textContent.toLowerCase();
  const rows = [...table.tBodies[0].rows].map((row) => [row, name(row)]);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length}`;
  });
}

// ------------------------------------------------------------------------------------- curves

for (const [id, curve] of Object.entries(data.curves)) {
  const svg = document.getElementById(id);
  const caption = svg.parentElement.querySelector(".values");
  const hair = svg.querySelector(".hair");
  const legend = [...caption.childNodes];
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let best = 0;
    for (const [i, x] of curve.x.entries()) {
      if (Math.abs(x - at) < Math.abs(curve.x[best] - at)) best = i;
    }
    hair.setAttribute("x1", curve.x[best]);
    hair.setAttribute("x2", curve.x[best]);
    hair.style.visibility = "visible";
    const values = curve.series
      .filter(([, shown]) => shown[best] !== null)
      .map(([name, shown]) => `${name} ${shown[best]}`);
    caption.textContent = `epoch ${curve.epochs[best]}: ${values.join(", ") || "not measured"}`;
  });
  svg.addEventListener("pointerleave", () => {
    hair.style.visibility = "";
    caption.replaceChildren(...legend);
  });
}

// ------------------------------------------------------------------------------------- matrix

class Matrix {
  constructor(root, { names, order, mirror, cells }) {
    Object.assign(this, { root, names, mirror });
    this.size = names.length;
    this.orders = { clustered: order, class: names.map((_, label) => label) };
    const prefix = shared(names);
    this.labels = names.map((name) => (prefix ? `…${name.slice(prefix)}` : name));
    this.rows = names.map(() => new Map());
    this.totals = names.map(() => 0);
    for (let i = 0; i < cells.length; i += 3) {
      this.rows[cells[i]].set(cells[i + 1], cells[i + 2]);
      this.totals[cells[i]] += cells[i + 2];
    }
    this.canvas = root.querySelector("canvas");
    this.readout = root.querySelector(".readout");
    this.hint = [...this.readout.childNodes];
    this.order = this.orders.clustered;
    this.span = this.size; // classes in view, from [top, left] on
    this.top = this.left = 0;
    this.at = null; // [row, column], places in the order
    this.listen();
    new ResizeObserver(() => this.draw()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    addEventListener("beforeprint", () => this.draw());
  }

  listen() {
    const { root, canvas } = this;
    for (const radio of root.querySelectorAll("input[type=radio]")) {
      radio.addEventListener("change", () => {
        const labels = this.at?.map((place) => this.order[place]);
        this.order = this.orders[radio.value];
        if (labels) this.select(...labels.map((label) => this.order.indexOf(label)), true);
        this.draw();
      });
    }
    const choice = root.querySelector("select"); // not there where there are few classes
    for (const [label, name] of this.names.entries()) choice?.add(new Option(name, label));
    choice?.addEventListener("change", () => {
      if (choice.value !== "") this.show(Number(choice.value), Number(choice.value), false);
    });
    for (const button of root.querySelectorAll("button[data-zoom]")) {
      button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
    }
    canvas.addEventListener("keydown", (event) => {
      const step = {
        ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      }[event.key];
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (step) {
        const [row, column] = this.at ?? [this.top - step[0], this.left - step[1]];
        this.select(row + step[0], column + step[1], true);
      } else if (event.key === "+" || event.key === "=") this.zoom(2);
      else if (event.key === "-") this.zoom(0.5);
      else if (event.key === "0") this.zoom(0);
      else if (event.key === "Escape") this.unselect();
      else return;
      event.preventDefault();
    });
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, top: this.top, left: this.left };
      this.point(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag || !event.buttons || this.span === this.size) return this.point(event);
      canvas.setPointerCapture(event.pointerId);
      this.move(
        drag.top - Math.round((event.clientY - drag.y) / this.cell),
        drag.left - Math.round((event.clientX - drag.x) / this.cell),
      );
      this.draw();
    });
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("dblclick", () => this.zoom(2));
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - 1 - this.gutter) / this.cell);
    const row = Math.floor((event.clientY - box.top - 1 - this.head) / this.cell);
    if (row < 0 || column < 0 || row >= this.span || column >= this.span) return;
    this.select(this.top + row, this.left + column, false);
  }

  /** Bring the cell of two labels into view and select it. */
  show(row, column, scroll) {
    if (this.size > 60 && this.span === this.size) this.resize(40);
    this.select(this.order.indexOf(row), this.order.indexOf(column), true);
    if (scroll) {
      this.root.scrollIntoView({ block: "start" });
      this.canvas.focus({ preventScroll: true });
    }
  }

  select(row, column, follow) {
    const inside = (place) => Math.max(0, Math.min(this.size - 1, place));
    this.at = [inside(row), inside(column)];
    if (follow) {
      const [r, c] = this.at;
      const keep = (start, place) => Math.max(place - this.span + 1, Math.min(start, place));
      const far = (start, place) => place < start - 1 || place > start + this.span;
      this.move(
        far(this.top, r) ? r - (this.span >> 1) : keep(this.top, r),
        far(this.left, c) ? c - (this.span >> 1) : keep(this.left, c),
      );
    }
    this.tell();
    this.draw();
  }

  unselect() {
    this.at = null;
    this.readout.replaceChildren(...this.hint);
    this.draw();
  }

  zoom(factor) {
    this.resize(factor ? this.span / factor : this.size);
    this.draw();
  }

  resize(span) {
    const centre = this.at ?? [this.top + this.span / 2, this.left + this.span / 2];
    this.span = Math.max(Math.min(8, this.size), Math.min(this.size, Math.round(span)));
    this.move(...centre.map((place) => Math.round(place - this.span / 2)));
  }

  move(top, left) {
    const inside = (start) => Math.max(0, Math.min(this.size - this.span, start));
    this.top = inside(top);
    this.left = inside(left);
  }

  tell() {
    const [row, column] = this.at.map((place) => this.order[place]);
    const total = this.totals[row];
    const count = this.rows[row].get(column) ?? 0;
    const share = total ? ` (${percent(count / total)})` : "";
    const line = document.createElement("b");
    const rest = document.createElement("span");
    if (row === column) {
      line.textContent = `“${this.names[row]}”: ${count} of ${clips(total)} right${share}`;
    } else {
      line.textContent =
        `“${this.names[row]}” taken for “${this.names[column]}”: ${count} of ${clips(total)}` +
        share + (this.mirror[row] === column ? ", its mirror image" : "");
    }
    const wrong = [...this.rows[row]].filter(([label]) => label !== row).sort((a, b) => b[1] - a[1]);
    const most = wrong.slice(0, 4).map(([label, n]) => `${this.names[label]} (${n})`);
    rest.textContent = wrong.length
      ? `This class is taken for: ${most.join("; ")}${wrong.length > 4 ? "; …" : ""}`
      : "This class is taken for no other.";
    this.readout.replaceChildren(line, rest);
  }

  draw() {
    const { canvas, size, span, order } = this;
    const width = canvas.parentElement.clientWidth - 2;
    if (width <= 0) return; // inside a closed part of the page
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const context = canvas.getContext("2d");
    const font = (px) => `${px}px ${style.fontFamily}`;
    // Names at the sides where cells are wide enough for them.
    const narrow = width < 520;
    const letters = narrow ? 10 : 11;
    const wide = Math.round(width * (narrow ? 0.36 : 0.31));
    const named = (width - wide) / span >= letters + 1;
    context.font = font(letters);
    const longest = Math.max(...this.labels.map((name) => context.measureText(name).width)) + 14;
    this.gutter = named ? Math.min(wide, longest) + 18 : 22;
    this.head = named ? Math.min(narrow ? 110 : 190, longest) + 18 : 22;
    this.cell = (width - this.gutter - 6) / span;
    const height = Math.round(this.head + this.cell * span + 6);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height + 2}px`;
    canvas.classList.toggle("zoomed", span < size);
    for (const button of this.root.querySelectorAll("button[data-zoom]")) {
      const factor = Number(button.dataset.zoom);
      button.disabled = factor > 1 ? span <= Math.min(8, size) : span === size;
    }

    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colour("raised");
    context.fillRect(0, 0, width, height);
    const { gutter, head, cell, top, left } = this;
    const end = cell * span;
    if (cell >= 6) {
      context.strokeStyle = colour("grid");
      context.lineWidth = 1;
      context.beginPath();
      for (let i = 0; i <= span; i++) {
        const at = Math.round(i * cell) + 0.5;
        context.moveTo(gutter, head + at);
        context.lineTo(gutter + end, head + at);
        context.moveTo(gutter + at, head);
        context.lineTo(gutter + at, head + end);
      }
      context.stroke();
    } else {
      context.strokeStyle = colour("line");
      context.strokeRect(gutter - 0.5, head - 0.5, end + 1, end + 1);
    }

    const place = new Map(order.map((label, i) => [label, i]));
    const colours = { right: colour("right"), wrong: colour("wrong"), mirror: colour("mirror") };
    const counts = cell >= 24;
    // Larger and stronger than they are, so that lone mistakes are seen among 400 classes.
    const [least, faintest] = cell < 4 ? [2, 0.3] : [1, 0.14];
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let r = top; r < top + span; r++) {
      const label = order[r];
      for (const [other, count] of this.rows[label]) {
        const c = place.get(other);
        if (c < left || c >= left + span) continue;
        const share = count / this.totals[label];
        context.fillStyle = label === other ? colours.right
          : this.mirror[label] === other ? colours.mirror : colours.wrong;
        context.globalAlpha = faintest + (1 - faintest) * Math.sqrt(share);
        const gap = cell >= 6 ? 1 : 0;
        const side = Math.max(cell - gap, least);
        const x = gutter + (c - left) * cell + gap;
        const y = head + (r - top) * cell + gap;
        context.fillRect(x, y, side, side);
        context.globalAlpha = 1;
        if (counts) {
          context.font = font(Math.min(13, cell * 0.42));
          context.fillStyle = share > 0.3 ? colour("raised") : colour("ink");
          context.fillText(count, x + side / 2, y + side / 2 + 0.5);
        }
      }
    }

    if (counts) {
      context.fillStyle = colour("muted");
      context.font = font(Math.min(13, cell * 0.42));
      for (let i = Math.max(top, left); i < Math.min(top, left) + span; i++) {
        const label = order[i];
        if (!this.totals[label] || this.rows[label].has(label)) continue;
        context.fillText(0, gutter + (i - left + 0.5) * cell, head + (i - top + 0.5) * cell + 0.5);
      }
    }

    const [row, column] = this.at ?? [-1, -1];
    if (this.at) {
      const x = gutter + (column - left) * cell;
      const y = head + (row - top) * cell;
      context.strokeStyle = colour("muted");
      context.globalAlpha = 0.55;
      context.lineWidth = 1;
      context.beginPath();
      const inView = (at, from) => at >= from && at < from + span;
      const within = (at, from) => Math.max(from, Math.min(at, from + end));
      if (inView(row, top)) {
        context.moveTo(gutter, y + cell / 2);
        context.lineTo(within(x, gutter), y + cell / 2);
      }
      if (inView(column, left)) {
        context.moveTo(x + cell / 2, head);
        context.lineTo(x + cell / 2, within(y, head));
      }
      context.stroke();
      context.globalAlpha = 1;
      if (inView(row, top) && inView(column, left)) {
        context.strokeStyle = colour("ink");
        context.lineWidth = 2;
        const more = Math.max(0, 8 - cell) / 2;
        context.strokeRect(x - more, y - more, cell + 2 * more, cell + 2 * more);
      }
    }

    context.font = font(letters);
    context.textBaseline = "middle";
    if (named) {
      const names = (from, room, active, put) => {
        for (let i = 0; i < span; i++) {
          context.fillStyle = colour(from + i === active ? "ink" : "muted");
          put(shorten(context, this.labels[order[from + i]], room), (i + 0.5) * cell);
        }
      };
      context.textAlign = "right";
      names(top, gutter - 26, row, (name, at) => context.fillText(name, gutter - 6, head + at));
      context.textAlign = "left";
      names(left, head - 26, column, (name, at) => {
        context.save();
        context.translate(gutter + at, head - 6);
        context.rotate(-Math.PI / 2);
        context.fillText(name, 0, 0);
        context.restore();
      });
    }
    context.fillStyle = colour("muted");
    context.font = `600 ${font(letters)}`;
    context.textAlign = "center";
    context.fillText("predicted class →", gutter + end / 2, 10);
    context.save();
    context.translate(10, head + end / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("← true class", 0, 0);
    context.restore();
  }
}

/** Length of the words that all names begin with, if they are worth leaving out. */
function shared(names) {
  const [first] = names;
  let length = 0;
  while (length < first.length && names.every((name) => name[length] === first[length])) length++;
  length = first.lastIndexOf(" ", length - 1) + 1;
  return names.length > 1 && length > 5 ? length : 0;
}

/** A name that fits the room, its middle left out: class names often begin alike. */
function shorten(context, name, room) {
  if (context.measureText(name).width <= room) return name;
  let keep = name.length;
  let short = "…";
  while (keep-- > 2) {
    const start = Math.floor(keep * 0.35);
    short = `${name.slice(0, start).trimEnd()}…${name.slice(name.length - keep + start).trimStart()}`;
    if (context.measureText(short).width <= room) break;
  }
  return short;
}

for (const [id, matrix] of Object.entries(data.matrices)) {
  const root = document.getElementById(id);
  const view = new Matrix(root, matrix);
  for (const button of document.querySelectorAll(`button[data-matrix="${id}"]`)) {
    const { row, column } = button.dataset;
    button.addEventListener("click", () => view.show(Number(row), Number(column), true));
  }
}

// --------------------------------------------------------------------------------------- page

// What is linked to, and what is printed, must not be folded away.
const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const fold = target && (target.closest("details.run") ?? target.querySelector("details.run"));
  if (fold && !fold.open) {
    fold.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const run of document.querySelectorAll("details.run")) run.open = true;
});
