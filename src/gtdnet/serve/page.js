"use strict";
// The page of gtdnet serve; shared.js comes before it.

const COLOURS = 6;
let limits = null;
let models = [];
let request = null; // the upload at hand
let camera = null; // the camera at hand
let shownFile = null; // URL of the video in the preview

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const clock = (s) => {
  const tenths = Math.round(10 * s);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${minutes}:${rest}`;
};

// ------------------------------------------------------------------------------------ the server

async function start() {
  $("entry").hidden = true;
  let response;
  try {
    response = await fetch("/v1/models", { headers: authorized() });
  } catch {
    return refuse("The server cannot be reached; is it still running?");
  }
  const found = await response.json().catch(() => ({}));
  if (response.status === 401) return askToken();
  if (!response.ok) return refuse(found.error || `The server said ${response.status}.`);
  models = found.models;
  limits = found.limits;
  $("model").replaceChildren(...models.map((m) => element("option", { value: m.name }, m.name)));
  $("drop-hint").textContent =
    `or drop one here: at most ${limits.megabytes} MB and ${limits.seconds} seconds`;
  $("collect").hidden = !found.collects;
  describe();
}

const chosen = () => models.find((m) => m.name === $("model").value) || models[0];

function describe() {
  const m = chosen();
  const number = m.classes.length === 1 ? "1 action" : `${m.classes.length} actions`;
  const gates = m.has_scores ? "" : "; without GTD blocks, so without global difference scores";
  $("about").textContent = `${m.network || "exported"}, knows ${number}; sees ${m.input}${gates}`;
}

// -------------------------------------------------------------------------------------- refusals

function clear() {
  for (const id of ["refusal", "answer", "time", "why", "work", "events"]) $(id).hidden = true;
  $("refusal").textContent = "";
}

// --------------------------------------------------------------------------------------- a video

function ask(file) {
  stopCamera();
  if (request) request.abort();
  clear();
  preview(file);
  if (limits && file.size > 1e6 * limits.megabytes) {
    return refuse(`The video has more than ${limits.megabytes} MB; send a shorter or smaller one.`);
  }
  const query = new URLSearchParams({
    model: chosen().name, topk: 5, window: "auto", stride: 1, picture: true,
  });
  const sent = (request = new XMLHttpRequest());
  sent.open("PUT", `/v1/predict?${query}`);
  for (const [name, value] of Object.entries(authorized())) sent.setRequestHeader(name, value);
  sent.responseType = "json";
  sent.upload.onprogress = (event) => working(event.loaded / event.total);
  sent.onload = () => finish(sent);
  sent.onerror = () => finish(sent, "The server cannot be reached; is it still running?");
  sent.onabort = () => finish(sent, "Cancelled.");
  working(0);
  sent.send(file);
}

function working(share) {
  $("work").hidden = false;
  if (share < 1) {
    $("progress").value = share;
    $("doing").textContent = `Sending: ${Math.round(100 * share)} %`;
  } else {
    $("progress").removeAttribute("value");
    $("doing").textContent = "Looking at it …";
  }
}

function finish(sent, sentence) {
  if (sent !== request) return; // another one has begun
  request = null;
  $("work").hidden = true;
  if (sentence) return refuse(sentence);
  if (sent.status === 401) return askToken();
  const found = sent.response || {};
  if (sent.status !== 200) return refuse(found.error || `The server said ${sent.status}.`);
  show(found);
}

function preview(file) {
  if (shownFile) URL.revokeObjectURL(shownFile);
  shownFile = URL.createObjectURL(file);
  const video = $("preview");
  video.srcObject = null;
  video.src = shownFile;
  video.controls = true;
  video.hidden = false;
  video.onerror = () => { video.hidden = true; }; // of a kind that this browser does not play
  $("name").textContent = file.name;
  $("stage").hidden = false;
}

// -------------------------------------------------------------------------------------- answers

function show(found) {
  const best = found.scores[0];
  $("kicker").textContent = found.windows ? "over the whole video, most of all" : "this is";
  $("headline").textContent = best.name;
  doubt(found);
  bars(found.scores);
  const facts = [];
  if (found.seconds !== null) facts.push(`${found.seconds.toFixed(1)} s`);
  facts.push(`${found.frames} frames`, `model ${found.model}`, `views ${found.views}`);
  facts.push(`decoded in ${found.took.decoding.toFixed(2)} s, model ${found.took.inference.toFixed(2)} s`);
  $("facts").textContent = facts.join(" · ");
  $("answer").hidden = false;
  if (found.windows) timeline(found);
  why(found);
}

function doubt(found) {
  $("doubt").hidden = found.is_sure;
  $("doubt").textContent = found.is_sure ? "" : found.doubt === "nothing" ?
    "The model is not sure: videos in which nothing happens look like this to it, too." :
    "The model is not sure: no class reaches the threshold that it was given.";
}

function bars(scores) {
  $("bars").replaceChildren(...scores.map((score) => {
    const fill = element("div", { class: "fill" });
    fill.style.width = percent(score.probability).replace(" ", "");
    return element("li", {},
      element("span", { class: "name" }, score.name),
      element("span", { class: "share" }, percent(score.probability)),
      element("div", { class: "track", "aria-hidden": "true" }, fill));
  }));
}

// The classes that matter: those that are the best one for longest and most surely.
function rank(windows) {
  const weight = new Map();
  for (const w of windows) {
    w.scores.forEach((s, i) => {
      const known = weight.get(s.label) || { label: s.label, name: s.name, best: 0, sum: 0 };
      known.sum += s.probability;
      if (i === 0) known.best += s.probability;
      weight.set(s.label, known);
    });
  }
  return [...weight.values()].sort((a, b) => b.best - a.best || b.sum - a.sum).slice(0, COLOURS);
}

function timeline(found) {
  const { windows, segments } = found;
  const end = windows[windows.length - 1].end;
  const ranked = rank(windows);
  const colour = new Map(ranked.map((known, i) => [known.label, `c${i}`]));
  const borders = windows.map((w, i) => i === 0 ? w.start
    : windows[i - 1].end === w.start ? w.start
    : (windows[i - 1].start + windows[i - 1].end + w.start + w.end) / 4);
  borders.push(end);
  const parts = [];
  for (const known of ranked) {
    let path = "";
    windows.forEach((w, i) => {
      const score = w.scores.find((s) => s.label === known.label);
      const p = score ? score.probability : 0;
      const [a, b] = [borders[i], borders[i + 1]].map((t) => (1000 * t / end).toFixed(1));
      path += `M${a} 100V${(100 - 100 * p).toFixed(1)}H${b}V100Z`;
    });
    parts.push(element("div", { class: "label" }, known.name));
    parts.push(element("svg", {
      viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img",
      "aria-label": `Probability of ${known.name} over time; the table below has the best ones`,
    }, element("path", { d: path, class: colour.get(known.label) })));
  }
  const band = element("div", { class: "best" });
  for (const s of segments) {
    const said = `${s.name}, ${clock(s.start)} to ${clock(s.end)}, ${percent(s.probability)}`;
    const button = element("button", {
      type: "button", title: said, "aria-label": `Show ${said}`,
      class: colour.get(s.label) || "other",
    }, s.name);
    button.style.left = `${100 * s.start / end}%`;
    button.style.width = `calc(${100 * (s.end - s.start) / end}% - 1px)`;
    button.onclick = () => { $("preview").currentTime = s.start; };
    band.append(button);
  }
  parts.push(element("div", { class: "label" }, "best"), band);
  const axis = element("div", { class: "axis", "aria-hidden": "true" });
  for (const part of [0, .25, .5, .75, 1]) {
    const tick = element("span", {}, clock(part * end));
    tick.style.left = `${100 * part}%`;
    axis.append(tick);
  }
  parts.push(element("div", { class: "label" }), axis);
  $("timeline").replaceChildren(...parts);
  $("segments").replaceChildren(...segments.map((s) => element("tr", {},
    ...[clock(s.start), clock(s.end), s.name, percent(s.probability)].map((x) => element("td", {}, x)))));
  $("time").hidden = false;
}

function why(found) {
  const picture = found.picture;
  $("why").hidden = false;
  $("reading").hidden = $("strip").hidden = !picture;
  $("notes").textContent = picture ? picture.notes.join(" ") : found.picture_note;
  $("why-of").textContent = !picture ? "" : !picture.of ? "The frames that it chose from the video."
    : `Of the moment it is surest of, ${clock(picture.of[0])} to ${clock(picture.of[1])}.`;
  if (!picture) return;
  const rows = element("div", { class: picture.times.length > 6 ? "rows many" : "rows" });
  rows.style.gridTemplateColumns = `repeat(${picture.times.length}, var(--cell))`;
  for (const row of picture.rows) {
    if (row.key === "activation" && picture.scores) rows.append(...discs(picture));
    rows.append(element("h3", {}, row.title, element("span", {}, row.hint)));
    const under = row.key === "frames"
      ? picture.times.map((t) => (t === null ? "" : `${t.toFixed(2)} s`)) : row.captions;
    picture.times.forEach((_, i) => {
      const figure = element("figure");
      if (i < row.pictures.length) {
        figure.append(element("img", { src: row.pictures[i], alt: row.alts[i] }));
        if (under[i]) figure.append(element("figcaption", {}, under[i]));
      }
      rows.append(figure);
    });
  }
  if (picture.scores && !picture.rows.some((row) => row.key === "activation")) {
    rows.append(...discs(picture));
  }
  $("strip").replaceChildren(rows);
  $("strip").scrollLeft = 0;
}

function discs(picture) {
  const { title, values, radii, ring } = picture.scores;
  const made = [element("h3", {}, title, element("span", {}, "how far each frame is set apart; the ring is an even share"))];
  values.forEach((value, i) => {
    made.push(element("figure", { class: "score" }, element("svg", {
      viewBox: "0 0 100 100", role: "img", "aria-label": `${title} of frame ${i + 1}: ${value.toFixed(2)}`,
    },
    element("circle", { class: "disc", cx: 50, cy: 50, r: (100 * radii[i]).toFixed(2) }),
    element("circle", { class: "ring", cx: 50, cy: 50, r: (100 * ring).toFixed(2) }),
    element("text", { x: 50, y: 50 }, value.toFixed(2)))));
  });
  return made;
}

// --------------------------------------------------------------------------------------- camera

async function startCamera() {
  if (request) request.abort();
  stopCamera();
  clear();
  const stream = await openCamera("choose a video");
  if (!stream) return;
  const video = $("preview");
  if (shownFile) URL.revokeObjectURL(shownFile);
  shownFile = null;
  video.removeAttribute("src");
  video.controls = false;
  video.hidden = false;
  video.srcObject = stream;
  await video.play();
  $("name").textContent = "";
  $("stage").hidden = false;
  $("camera").textContent = "Stop the camera";
  $("log").replaceChildren();
  watch(stream, video);
}

function watch(stream, video) {
  const address = new URL("/v1/camera", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.search = new URLSearchParams({ model: chosen().name, topk: 5 });
  const socket = new WebSocket(address, protocols());
  const mine = (camera = { socket, stream, timer: 0, sent: 0, seen: 0, told: false });
  socket.onmessage = (event) => {
    const found = JSON.parse(event.data);
    if (found.error) {
      mine.told = true;
      refuse(found.error);
    } else if (found.rate) {
      mine.timer = setInterval(() => capture(mine, video, found.side), 1000 / found.rate);
      live(found);
    } else {
      mine.seen = found.seen;
      if (found.scores) look(found);
    }
  };
  socket.onclose = () => {
    if (camera !== mine) return;
    if (!mine.told) refuse("The server closed the camera's connection; is it still running?");
    stopCamera();
  };
}

// A picture, unless the server has not looked at the last two yet.
function capture(mine, video, side) {
  if (mine.sent - mine.seen >= 2 || mine.socket.readyState !== 1 || !video.videoWidth) return;
  mine.sent += 1;
  sendPicture(video, mine.socket, side, 0.85);
}

function live(found) {
  $("kicker").textContent = "now";
  $("headline").textContent = "…";
  $("doubt").hidden = true;
  $("bars").replaceChildren();
  $("facts").textContent = `model ${found.model} · ${found.how}`;
  $("answer").hidden = false;
}

function look(found) {
  const text = found.event ? found.event.name : "Nothing that it is sure of";
  if ($("headline").textContent !== text) $("headline").textContent = text; // is read aloud
  bars(found.scores);
  for (const event of found.ended) {
    $("events").hidden = false;
    $("log").prepend(element("li", {}, `${clock(event.start)} to ${clock(event.time)}: ${event.name}, up to ${percent(event.peak)}`));
    while ($("log").childElementCount > 50) $("log").lastChild.remove();
  }
}

function stopCamera() {
  if (!camera) return;
  const old = camera;
  camera = null;
  clearInterval(old.timer);
  old.stream.getTracks().forEach((track) => track.stop());
  old.socket.close();
  $("preview").srcObject = null;
  $("stage").hidden = true;
  $("camera").textContent = "Use the camera";
}

// -------------------------------------------------------------------------------------- the page

function listen() {
  for (const id of ["file", "record"]) {
    $(id).onchange = () => {
      if ($(id).files.length) ask($(id).files[0]);
      $(id).value = ""; // the same file can be chosen again
    };
  }
  $("camera").onclick = () => (camera ? stopCamera() : startCamera());
  $("cancel").onclick = () => request && request.abort();
  $("model").onchange = () => {
    describe();
    if (camera) startCamera();
  };
  $("entry").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("gtdnet-token", $("token").value);
    start();
  };
  // Wherever a file is dropped: a browser would leave the page for it.
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
    });
  }
  document.body.classList.toggle("touch", navigator.maxTouchPoints > 0);
  $("origin").textContent = location.origin;
}

rememberToken();
listen();
start();
