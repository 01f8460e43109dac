/* Forms: comfort only, every form works without it.

   Options are completed from the catalogue of the API while a line is typed, each with its type,
   default and help; boxes of a list are ticked together. */
"use strict";

(() => {
  /* --- options: key = "value" text ------------------------------------------------------------ */

  const catalogues = new Map();
  const catalogue = (scope) => {
    if (!catalogues.has(scope)) {
      catalogues.set(scope, fetch(`/api/v2/options?scope=${encodeURIComponent(scope)}`, {
        headers: { Accept: "application/json" }, credentials: "same-origin",
      }).then((answer) => (answer.ok ? answer.json() : { items: [] })).then((found) => found.items)
        .catch(() => []));
    }
    return catalogues.get(scope);
  };

  const MOST = 8;
  const lineAt = (area) => {
    const begin = area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;
    const stop = area.value.indexOf("\n", area.selectionStart);
    const end = stop < 0 ? area.value.length : stop;
    return { begin, end, text: area.value.slice(begin, end), before: area.value.slice(begin, area.selectionStart) };
  };

  const completing = (area) => {
    const list = document.createElement("ul");
    const about = document.createElement("p");
    list.id = `${area.id}-list`;
    list.className = "proposals";
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Options that fit");
    about.className = "hint about";
    about.setAttribute("aria-live", "polite");
    area.after(list, about);
    area.setAttribute("aria-controls", list.id);
    area.setAttribute("aria-autocomplete", "list");
    let chosen = -1;
    let found = [];

    const close = () => {
      list.hidden = true;
      chosen = -1;
      area.removeAttribute("aria-activedescendant");
    };
    const mark = () => {
      [...list.children].forEach((one, place) => one.setAttribute("aria-selected", String(place === chosen)));
      if (chosen >= 0) {
        area.setAttribute("aria-activedescendant", list.children[chosen].id);
        list.children[chosen].scrollIntoView({ block: "nearest" });
      }
    };
    const take = (place) => {
      const line = lineAt(area);
      const option = found[place];
      const text = `${option.key} = "${option.default}"`;
      area.setRangeText(text, line.begin, line.end, "end");
      const quote = line.begin + option.key.length + 4;
      area.setSelectionRange(quote, quote + option.default.length);
      close();
      area.dispatchEvent(new Event("change", { bubbles: true }));
      tell();
    };
    const tell = async () => {
      const key = lineAt(area).text.split("=")[0].trim().toLowerCase();
      const all = await catalogue(area.dataset.options);
      const option = all.find((one) => one.key.toLowerCase() === key);
      let text = "";
      if (option) text = `${option.key}: ${option.type}${option.default ? `, default ${option.default}` : ""}. ${option.help}`;
      else if (key.includes(".") && lineAt(area).text.includes("=")) text = `There is no option ${key}.`;
      if (about.textContent !== text) about.textContent = text;
    };
    const propose = async () => {
      const line = lineAt(area);
      const typed = line.before.trim().toLowerCase();
      if (!typed || typed.includes("=") || typed.startsWith("#")) { close(); return; }
      const all = await catalogue(area.dataset.options);
      const begins = all.filter((one) => one.key.toLowerCase().startsWith(typed));
      const holds = all.filter((one) => !begins.includes(one) && one.key.toLowerCase().includes(typed));
      found = [...begins, ...holds].slice(0, MOST);
      list.replaceChildren(...found.map((one, place) => {
        const item = document.createElement("li");
        item.id = `${list.id}-${place}`;
        item.setAttribute("role", "option");
        const key = document.createElement("code");
        key.textContent = one.key;
        const rest = document.createElement("span");
        rest.textContent = one.help;
        item.append(key, " ", rest);
        item.addEventListener("mousedown", (event) => { event.preventDefault(); take(place); });
        return item;
      }));
      list.hidden = !found.length;
      chosen = -1;
    };
    area.addEventListener("input", () => { propose(); tell(); });
    area.addEventListener("click", tell);
    area.addEventListener("focus", tell);
    area.addEventListener("blur", close);
    area.addEventListener("keydown", (event) => {
      if (list.hidden || event.isComposing) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        const step = event.key === "ArrowDown" ? 1 : -1;
        chosen = (chosen + step + found.length) % found.length;
        mark();
      } else if (event.key === "Enter" && chosen >= 0) take(chosen);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
    });
  };
  for (const area of document.querySelectorAll("textarea[data-options]")) completing(area);

  /* --- boxes of a list -------------------------------------------------------------------------- */

  const boxes = (name) => [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  const counted = document.querySelector("[data-ticked]");
  const count = () => {
    if (!counted) return;
    const number = boxes(counted.dataset.ticked).filter((one) => one.checked).length;
    const text = number ? `${number} ticked` : "none ticked";
    if (counted.textContent !== text) counted.textContent = text;
    const whole = document.querySelector("[data-tick-all]");
    if (whole) {
      whole.checked = number > 0 && number === boxes(counted.dataset.ticked).length;
      whole.indeterminate = number > 0 && !whole.checked;
    }
  };
  for (const whole of document.querySelectorAll("[data-tick-all]")) {
    whole.hidden = false;
  }
  document.addEventListener("change", (event) => {
    const all = event.target.dataset?.tickAll;
    if (all) for (const one of boxes(all)) one.checked = event.target.checked;
    count();
  });
  count();
})();
