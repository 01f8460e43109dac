/* Dashboard: comfort only, every page works without it.

   The page opens one stream (GET /live) for the topics that its body names.  A row that moves bytes
   is changed in place; anything else makes the page ask for itself again, at most every two seconds,
   and take over the regions that differ.  What comes from the server is text or the server's own,
   escaped markup; scripts in it would not run (content policy, DOMParser). */
"use strict";

(() => {
  const PACE = 2000; // ms between two looks at the whole page, at least
  const QUIET = 45000; // ms without any sign of life until the view counts as delayed
  const FALLBACK = 30000; // ms between two looks when there is no stream
  const topics = document.body.dataset.topics;
  const button = document.getElementById("live");
  const clock = document.getElementById("clock");
  const told = document.getElementById("told");

  /* --- clock: that of the server, carried on ------------------------------------------------- */

  const offset = clock ? Date.parse(clock.dateTime) - Date.now() : 0;
  if (clock) {
    const text = clock.firstChild;
    const tick = () => {
      const now = new Date(Date.now() + offset);
      text.data = now.toISOString().slice(11, 19);
      clock.dateTime = now.toISOString().slice(0, 19) + "Z";
    };
    tick();
    setInterval(tick, 1000);
  }

  /* --- colours: without a round trip ---------------------------------------------------------- */

  const theme = document.querySelector("form.theme");
  theme?.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = event.submitter?.value;
    if (chosen !== "light" && chosen !== "dark") return;
    document.documentElement.dataset.theme = chosen;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${chosen}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    theme.querySelector(`[value="${chosen === "dark" ? "light" : "dark"}"]`)?.focus();
  });

  /* --- forms: one click is one action --------------------------------------------------------- */

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  if (!topics || !button) return;

  /* --- numbers as the server writes them ------------------------------------------------------ */

  const bytes = (count) => {
    if (count < 999.5) return `${Math.round(count)} B`;
    for (const prefix of "kMGTP") {
      count /= 1000;
      if (count < 999.5) {
        return `${count.toFixed(count < 9.995 ? 2 : count < 99.95 ? 1 : 0)} ${prefix}B`;
      }
    }
    return `${(count / 1000).toFixed(1)} EB`;
  };

  const write = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };

  const move = (element, data) => {
    const size = Number(data.size ?? element.dataset.size);
    const field = (name) => element.querySelector(`[data-field="${name}"]`);
    write(field("sent"), bytes(data.sent));
    if (data.rate !== undefined && data.rate !== null) write(field("rate"), `${bytes(data.rate)}/s`);
    if (!(size >= 0)) return;
    const share = size ? Math.min(Math.floor((100 * data.sent) / size), 100) : 100;
    const bar = field("percent");
    if (bar) bar.value = share;
    write(field("percent-text"), `${share} %`);
  };

  /* --- the page again, region by region ------------------------------------------------------- */

  const isBusy = (element) =>
    element.contains(document.activeElement) &&
    document.activeElement.matches("input:not([type=checkbox]), select, textarea, [data-open]");

  const keyed = (root) => {
    const rows = new Map();
    for (const row of root.children) if (row.dataset.live) rows.set(row.dataset.live, row);
    return rows;
  };

  /* Rows are kept, moved and replaced one by one, so that a focused link keeps its focus. */
  const mergeRows = (body, fresh) => {
    const old = keyed(body);
    if (old.size !== body.children.length || keyed(fresh).size !== fresh.children.length) {
      return false;
    }
    let place = body.firstElementChild;
    for (const row of [...fresh.children]) {
      let kept = old.get(row.dataset.live);
      old.delete(row.dataset.live);
      if (kept && kept.outerHTML.replace(' class="changed"', "") !== row.outerHTML) {
        const focus = focusPath(kept);
        const isHere = kept === place;
        const next = document.importNode(row, true);
        if (mark(kept) !== mark(next)) next.classList.add("changed");
        for (const one of kept.querySelectorAll("input[type=checkbox][id]")) {
          const same = next.querySelector(`#${CSS.escape(one.id)}`);
          if (same) same.checked = one.checked;
        }
        kept.replaceWith(next);
        if (isHere) place = next;
        refocus(next, focus);
        kept = next;
      } else if (!kept) {
        kept = document.importNode(row, true);
        kept.classList.add("changed");
      }
      if (kept === place) place = place.nextElementSibling;
      else body.insertBefore(kept, place);
    }
    for (const row of old.values()) row.remove();
    return true;
  };

  /* What has to change for a row to draw the eye: its state, not its progress. */
  const mark = (row) =>
    [...row.querySelectorAll(".state, .light")].map((one) => one.textContent).join() + row.dataset.status;

  const focusPath = (element) => {
    const active = document.activeElement;
    return element.contains(active) ? active.id || active.getAttribute("href") || active.className : null;
  };

  const refocus = (element, path) => {
    if (path === null) return;
    const same = [...element.querySelectorAll("a, button, input")].find(
      (one) => (one.id || one.getAttribute("href") || one.className) === path);
    same?.focus({ preventScroll: true });
  };

  const take = (region, fresh) => {
    if (isBusy(region)) return;
    const open = [...region.querySelectorAll("details")].map((one) => one.open);
    const bodies = region.querySelectorAll("tbody");
    const others = fresh.querySelectorAll("tbody");
    if (region.matches("tbody")) {
      if (mergeRows(region, fresh)) return;
    } else if (bodies.length === 1 && others.length === 1 && mergeRows(bodies[0], others[0])) {
      swapAround(region, fresh, bodies[0], others[0]);
      return;
    }
    if (region.innerHTML === fresh.innerHTML) return;
    const focus = focusPath(region);
    region.replaceChildren(...[...fresh.childNodes].map((one) => document.importNode(one, true)));
    region.querySelectorAll("details").forEach((one, place) => { one.open = open[place] ?? one.open; });
    refocus(region, focus);
  };

  /* Headings and pages around a merged table. */
  const swapAround = (region, fresh, body, other) => {
    const parts = (root, table) => [...root.children].filter((one) => !one.contains(table));
    const old = parts(region, body);
    const now = parts(fresh, other);
    if (old.length !== now.length) return;
    old.forEach((one, place) => {
      if (one.outerHTML !== now[place].outerHTML && !isBusy(one)) {
        one.replaceWith(document.importNode(now[place], true));
      }
    });
  };

  const regions = (root) => {
    const found = new Map();
    for (const one of root.querySelectorAll("[data-region]")) {
      if (!one.parentElement.closest("[data-region]")) found.set(one.dataset.region, one);
    }
    return found;
  };

  const status = () => document.querySelector("main .head [data-live], main .head[data-live]");

  let wanted = false;
  let fetching = false;
  let pause = PACE;
  let timer = 0;

  const look = async () => {
    timer = 0;
    if (fetching || isPaused || document.hidden) return;
    wanted = false;
    fetching = true;
    const begun = performance.now();
    try {
      const answer = await fetch(location.href, {
        headers: { Accept: "text/html" }, cache: "no-store", credentials: "same-origin",
      });
      if (answer.redirected && new URL(answer.url).pathname === "/login") {
        location.reload();
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const before = status()?.querySelector(".state")?.textContent;
        const fresh = regions(page);
        for (const [name, region] of regions(document)) {
          if (fresh.has(name)) {
            for (const key of ["live", "status", "size"]) {
              const value = fresh.get(name).dataset[key];
              if (value !== undefined) region.dataset[key] = value;
            }
            take(region, fresh.get(name));
          }
        }
        const after = status()?.querySelector(".state")?.textContent;
        if (after !== undefined && before !== after) told.textContent = `Now ${after}`;
        heard();
      }
    } catch {
      show();
    } finally {
      fetching = false;
      pause = Math.max(PACE, 10 * (performance.now() - begun));
      if (wanted) plan();
    }
  };

  const plan = (after = pause) => {
    wanted = true;
    if (!timer && !fetching && !isPaused) timer = setTimeout(look, after);
  };

  /* --- the stream ----------------------------------------------------------------------------- */

  let source = null;
  let first = true; // what happened between the page and its stream is told then
  let isPaused = false;
  let last = 0;

  const heard = () => {
    last = Date.now();
    show();
  };

  const show = () => {
    let state = "live";
    if (isPaused) state = "paused";
    else if (!source || source.readyState !== EventSource.OPEN) state = "off";
    else if (Date.now() - last > QUIET) state = "delayed";
    button.dataset.state = state;
    const age = Math.round((Date.now() - last) / 1000);
    write(button.querySelector(".word"), state === "delayed" ? `${age} s old` : state);
    button.setAttribute("aria-pressed", String(!isPaused));
  };

  const row = (event) => {
    heard();
    const data = JSON.parse(event.data);
    const key = `${data.t}:${data.id}`;
    const found = document.querySelectorAll(`[data-live="${CSS.escape(key)}"]`);
    let isSame = data.t === "transfer" && data.status === "transferring" && found.length > 0;
    for (const element of found) {
      if (element.dataset.status === data.status && data.sent !== undefined) move(element, data);
      else isSame = false;
    }
    if (!isSame) plan();
  };

  const counter = (event) => {
    heard();
    const data = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-counter]")) {
      const value = data[element.dataset.counter];
      if (value !== undefined) write(element, String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009"));
    }
  };

  const open = () => {
    if (source || isPaused || document.hidden) return;
    const seen = first ? `&last=${document.body.dataset.seen}` : "";
    first = false;
    source = new EventSource(`/live?topics=${encodeURIComponent(topics)}${seen}`);
    source.addEventListener("open", heard);
    source.addEventListener("row", row);
    source.addEventListener("gone", () => { heard(); plan(); });
    source.addEventListener("refresh", () => { heard(); plan(); });
    source.addEventListener("ping", heard);
    source.addEventListener("counter", counter);
    source.addEventListener("bye", () => location.reload());
    source.addEventListener("error", show);
  };

  const close = () => {
    source?.close();
    source = null;
    clearTimeout(timer);
    timer = 0;
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    if (isPaused) close();
    else { open(); plan(0); }
    show();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!isPaused) { open(); plan(0); }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) { open(); plan(0); } });
  setInterval(() => {
    show();
    if (!isPaused && !document.hidden && Date.now() - last > FALLBACK) plan(0);
  }, 1000);
  last = Date.now();
  open();
  show();
})();
