/* Data portal pages: comfort only, every page works without it.

   Uploads show their progress and may be dropped on the page; each file is one PUT, so that a broken
   one is not registered and does not touch the others.  Names are put into the page as text, never
   as markup. */
"use strict";

(() => {
  const form = document.querySelector("form[data-upload]");
  if (!form) return;
  const panel = form.closest(".panel");
  const field = form.querySelector("input[type=file]");
  const button = form.querySelector("button");
  const base = form.dataset.upload;

  const line = (name) => {
    const box = document.createElement("div");
    box.className = "progress";
    const label = document.createElement("bdi");
    label.textContent = name;
    const state = document.createElement("span");
    state.setAttribute("role", "status");
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = 0;
    box.append(label, state, bar);
    panel.append(box);
    return { state, bar };
  };

  const send = (file) => new Promise((resolve) => {
    const shown = line(file.name);
    const request = new XMLHttpRequest();
    request.open("PUT", base + encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-Requested-With", "portal");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) shown.bar.value = event.loaded / (event.total || 1);
    });
    const end = (good, text) => {
      shown.state.textContent = text;
      shown.bar.value = good ? 1 : shown.bar.value;
      resolve(good);
    };
    request.addEventListener("load", () => {
      const good = request.status >= 200 && request.status < 300;
      end(good, good ? "done" : request.responseText.trim().slice(0, 200) || String(request.status));
    });
    request.addEventListener("error", () => end(false, "connection lost"));
    request.send(file);
  });

  let busy = false;
  const sendAll = async (files) => {
    if (busy || !files.length) return;
    busy = true;
    button.disabled = true;
    let good = true;
    for (const file of files) good = (await send(file)) && good;
    busy = false;
    button.disabled = false;
    form.reset();
    if (good) location.reload();
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sendAll(Array.from(field.files));
  });

  const hasFiles = (event) => Array.from(event.dataTransfer?.types ?? []).includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    panel.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) panel.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    panel.classList.remove("over");
    sendAll(Array.from(event.dataTransfer.files));
  });
})();
