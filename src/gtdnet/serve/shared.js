"use strict";
// What both pages of gtdnet serve need. Texts that come from elsewhere (names of classes, of files,
// sentences of the server) only ever become text, never markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  const is_svg = ["svg", "path", "circle", "text"].includes(name);
  const made = is_svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function refuse(sentence) {
  $("refusal").textContent = sentence;
  $("refusal").hidden = false;
}

// ------------------------------------------------------------------------------------- the token

const token = () => sessionStorage.getItem("gtdnet-token");

function rememberToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  sessionStorage.setItem("gtdnet-token", given);
  history.replaceState(null, "", location.pathname); // not in the history, nor in a screenshot
}

const authorized = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

function askToken() {
  $("entry").hidden = false;
  $("token").value = "";
  $("token").focus();
}

// What a WebSocket is opened with: a browser can bring the token in this place alone.
function protocols() {
  if (!token()) return ["gtdnet"];
  const bytes = String.fromCharCode(...new TextEncoder().encode(token()));
  const coded = btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return ["gtdnet", `bearer.${coded}`];
}

// ------------------------------------------------------------------------------------ the camera

// The camera's pictures, or null, and why not is said.
async function openCamera(remedy) {
  if (!navigator.mediaDevices) {
    refuse(`Browsers give a camera to https and to this machine alone; ${remedy}.`);
    return null;
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: 640 }, audio: false });
  } catch (error) {
    refuse(error.name === "NotAllowedError"
      ? `The browser was not allowed to use the camera; allow it, or ${remedy}.`
      : `No camera was found; ${remedy}.`);
    return null;
  }
}

// A picture of the video with this shorter side at most goes to the socket, as JPEG.
function sendPicture(video, socket, side, quality) {
  const scale = Math.min(1, side / Math.min(video.videoWidth, video.videoHeight));
  const canvas = element("canvas");
  canvas.width = Math.round(scale * video.videoWidth);
  canvas.height = Math.round(scale * video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => {
    if (blob && socket.readyState === 1) socket.send(blob);
  }, "image/jpeg", quality);
}
