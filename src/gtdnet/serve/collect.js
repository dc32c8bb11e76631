"use strict";
// The page on which clips are cut; shared.js comes before it.

const HELD = 400; // milliseconds from which on a press is one that is held
const AHEAD = 3; // pictures that the server has not looked at yet
let sitting = null; // the camera, the connection and what is being cut

async function begin() {
  $("refusal").hidden = true;
  const stream = await openCamera("use gtdnet collect in a terminal");
  if (!stream) return;
  $("preview").srcObject = stream;
  await $("preview").play();
  $("camera").textContent = "Stop the camera";
  connect(stream);
}

function connect(stream) {
  const address = new URL("/v1/collect", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, protocols());
  const mine = (sitting = {
    socket, stream, about: null, counts: {}, recording: null, asked: null, since: 0, pressed: 0,
    timer: 0, sent: 0, seen: 0, kept: 0, told: false, opened: false,
  });
  socket.onopen = () => { mine.opened = true; };
  socket.onmessage = (event) => {
    const found = JSON.parse(event.data);
    if (found.error) {
      mine.told = true;
      refuse(found.error);
    } else if (found.seen) {
      mine.seen = found.seen;
    } else {
      if (found.classes) show(mine, found);
      follow(mine, found);
    }
  };
  socket.onclose = async () => {
    if (sitting !== mine) return;
    end();
    if (mine.told) return;
    if (!mine.opened && (await isLocked())) return askToken();
    refuse("The server closed the connection, and what was being recorded is gone; is it still running?");
  };
}

// A browser does not say why a handshake was refused.
async function isLocked() {
  const response = await fetch("/v1/models", { headers: authorized() }).catch(() => null);
  return response !== null && response.status === 401;
}

function end() {
  const old = sitting;
  sitting = null;
  if (!old) return;
  clearInterval(old.timer);
  old.stream.getTracks().forEach((track) => track.stop());
  old.socket.close();
  $("preview").srcObject = null;
  $("frame").classList.remove("recording");
  $("labels").hidden = true;
  $("camera").textContent = "Use the camera";
}

function show(mine, found) {
  mine.about = found;
  $("buttons").replaceChildren(...found.classes.map(({ key, name }) => {
    const button = element("button", { type: "button", "aria-pressed": "false", "data-name": name, "aria-keyshortcuts": key },
      element("kbd", {}, key), element("span", { class: "name" }, name), element("span", { class: "count" }));
    button.onpointerdown = (event) => { if (event.button === 0) press(name); };
    button.onpointerup = button.onpointercancel = () => release(name);
    button.onpointerleave = () => release(name);
    button.onclick = (event) => { if (event.detail === 0) press(name); }; // by Enter or Space
    button.oncontextmenu = (event) => event.preventDefault(); // a finger that is held
    return button;
  }));
  $("where").textContent = `Clips go to ${found.folder} on the server; at most ${found.seconds} seconds each.`;
  $("train").textContent = `gtdnet train --data ${found.folder} --val 0.2`;
  $("labels").hidden = false;
}

function follow(mine, found) {
  const before = mine.recording;
  mine.counts = found.counts;
  mine.recording = found.recording;
  if (mine.recording !== before) mine.asked = null;
  if (found.kept) {
    mine.kept += 1;
    $("last").textContent = `Kept: ${found.kept}, ${((performance.now() - mine.since) / 1000).toFixed(1)} s`;
  } else if (before && !mine.recording) {
    $("last").textContent = "Dropped, or too short to keep.";
  }
  for (const button of $("buttons").children) {
    const name = button.dataset.name;
    button.setAttribute("aria-pressed", String(name === mine.recording));
    button.disabled = mine.recording !== null && name !== mine.recording;
    button.querySelector(".count").textContent = mine.counts[name];
  }
  $("undo").disabled = !mine.kept || mine.recording !== null;
  $("drop").disabled = mine.recording === null;
  $("frame").classList.toggle("recording", mine.recording !== null);
  if (mine.recording && !before) {
    mine.since = performance.now();
    mine.timer = setInterval(() => step(mine), 1000 / mine.about.rate);
    step(mine);
  } else if (!mine.recording) {
    clearInterval(mine.timer);
    $("now").textContent = "Nothing is being recorded";
  }
  if (mine.recording) $("now").textContent = `Recording: ${mine.recording}`;
}

function step(mine) {
  const video = $("preview");
  if (mine.sent - mine.seen >= AHEAD || mine.socket.readyState !== 1 || !video.videoWidth) return;
  mine.sent += 1;
  sendPicture(video, mine.socket, mine.about.side, 0.92);
}

function tell(message) {
  if (sitting && sitting.socket.readyState === 1) sitting.socket.send(JSON.stringify(message));
}

// ------------------------------------------------------------------------------- buttons and keys

function press(name) {
  const mine = sitting;
  if (!mine || !mine.about) return;
  if (mine.recording === name || mine.asked === name) return tell({ do: "stop" });
  if (mine.recording || mine.asked) return;
  mine.asked = name;
  mine.pressed = performance.now();
  tell({ do: "start", name });
}

// A press that was held ends the clip; a short one leaves it on.
function release(name) {
  const mine = sitting;
  if (!mine || ![mine.recording, mine.asked].includes(name)) return;
  if (mine.pressed && performance.now() - mine.pressed >= HELD) tell({ do: "stop" });
  mine.pressed = 0;
}

function undo() {
  if (!sitting || !sitting.kept || sitting.recording) return;
  sitting.kept -= 1;
  $("last").textContent = "The last clip is gone.";
  tell({ do: "undo" });
}

const classOf = (event) => {
  const found = sitting && sitting.about && sitting.about.classes.find((c) => c.key === event.key.toLowerCase());
  return found ? found.name : null;
};

document.addEventListener("keydown", (event) => {
  if (!sitting || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLInputElement) return;
  if (event.key === "Escape") tell({ do: "drop" });
  else if (event.key === "u") undo();
  else if (classOf(event)) press(classOf(event));
});
document.addEventListener("keyup", (event) => classOf(event) && release(classOf(event)));
$("camera").onclick = () => (sitting ? end() : begin());
$("undo").onclick = undo;
$("drop").onclick = () => tell({ do: "drop" });
$("entry").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("gtdnet-token", $("token").value);
  $("entry").hidden = true;
  begin();
};
rememberToken();
