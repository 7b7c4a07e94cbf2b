// What the pages can do without, and are nicer with: times in the viewer's zone, lists and progress that go on by
// themselves, counts of what is ticked, and a button that copies. Nothing is ever sent by itself.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function localTimes(within) {
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime()) || "local" in time.dataset) continue;
    const two = (number) => String(number).padStart(2, "0");
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
    const day = at.toLocaleDateString(undefined, { day: "numeric", month: "short", year });
    time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
    time.textContent = "hour" in time.dataset ? clock : `${day} ${clock}:${two(at.getSeconds())}`;
    time.dataset.local = "";
  }
}

// A filter's times are shown and taken in the viewer's zone; what is sent, and stands in an address, is UTC.
const WRITTEN = /^(\d{4})-?(\d\d)-?(\d\d)(?:[T ]([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d)(?:\.\d+)?)?)?)?$/;

// The moment that a text means in UTC ("Z") or here (""); null for an age, a time with a zone, and no day at all.
function written(text, zone) {
  const [, year, month, day, hour = "00", minute = "00", second = "00"] = WRITTEN.exec(text.trim()) ?? [];
  const at = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone}`);
  return (zone === "Z" ? at.getUTCDate() : at.getDate()) === Number(day) ? at : null;
}

function localFilter(form) {
  const fields = all("input[data-moment]", form);
  const given = new Map(fields.map((field) => [field, field.defaultValue]));
  for (const field of fields) {
    const at = written(field.defaultValue.replace(/Z$/, ""), "Z");
    if (at !== null) field.defaultValue = at.toLocaleString("sv").replace(/:00$/, ""); // Swedish is written as ISO is.
  }
  for (const hint of all("[data-zone]", form)) hint.textContent = "your time";
  form.addEventListener("formdata", (event) => {
    for (const field of fields) {
      const at = written(field.value, "");
      // What was not touched stays to the fraction of a second, also in an hour that a clock shows twice.
      if (field.value === field.defaultValue) event.formData.set(field.name, given.get(field));
      else if (at !== null) event.formData.set(field.name, at.toISOString().replace(".000", ""));
    }
  });
}

// A stream that is open only while someone looks: a hidden page closes it, and one that went wrong is opened anew.
function watch(url, handlers) {
  let source = null;
  const set = () => {
    const wanted = !document.hidden && handlers.on();
    if (wanted && source === null) {
      source = new EventSource(url);
      const tell = (event) => handlers[event.type]?.(JSON.parse(event.data));
      for (const kind of ["rows", "changed"]) source.addEventListener(kind, tell);
    } else if (!wanted && source !== null) {
      source.close();
      source = null;
    }
  };
  document.addEventListener("visibilitychange", set);
  set();
  return set;
}

function liveList(holder) {
  const button = holder.querySelector("button");
  const said = holder.querySelector("[data-live-said]");
  const body = document.querySelector("[data-live-rows]");
  const most = 200;
  holder.hidden = false;

  function put(row) {
    const template = document.createElement("template");
    template.innerHTML = row.html;
    const fresh = template.content.querySelector("tr");
    localTimes(fresh);
    const old = document.getElementById(fresh.id);
    if (old !== null) {
      // One that someone stands on with the keyboard stays until they have moved on.
      if (!old.contains(document.activeElement)) old.replaceWith(fresh);
      return 0;
    }
    const after = [...body.rows].find((one) => Number(one.dataset.seq) < row.seq);
    if (after === undefined && body.rows.length >= 50) return 0;
    fresh.classList.add("fresh");
    body.insertBefore(fresh, after ?? null);
    return 1;
  }

  const set = watch(holder.dataset.live, {
    on: () => button.getAttribute("aria-pressed") === "true",
    rows: (rows) => {
      const added = rows.reduce((sum, row) => sum + put(row), 0);
      while (body.rows.length > most) body.deleteRow(-1);
      if (body.rows.length > 0) {
        body.closest("table").hidden = false;
        document.querySelector("[data-live-empty]")?.remove();
      }
      if (added > 0) said.textContent = added === 1 ? "1 new event" : `${added} new events`;
    },
  });
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    said.textContent = on ? "" : "stands still";
    set();
  });
}

// Parts of this page are fetched again whenever the hub says that something about it changed.
function livePage(holder) {
  let busy = false;
  let again = false;
  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      do {
        again = false;
        const answer = await fetch(location.href, { headers: { accept: "text/html" } });
        if (!answer.ok) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of all("[data-part]", holder)) replace(part, page.getElementById(part.id));
        holder.querySelector("[data-live-said]").textContent = "This page was brought up to date.";
      } while (again);
    } catch {
      // The network's; the stream tells again.
    } finally {
      busy = false;
    }
  }
  watch(holder.dataset.livePage, { on: () => true, changed: refresh });
}

function replace(part, fresh) {
  if (fresh === null || part.contains(document.activeElement)) return;
  for (const open of all("details[open][id]", part)) {
    const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
    if (same !== null) same.open = true;
  }
  localTimes(fresh);
  part.replaceWith(document.adoptNode(fresh));
}

// How many are ticked, beside the buttons; and one tick for all that are on this page.
function chosen(form) {
  const ticks = all("input[name=id]", form);
  const buttons = all("button[name=action]", form);
  const head = form.querySelector("thead th");
  if (ticks.length === 0 || buttons.length === 0) return;
  const every = document.createElement("input");
  every.type = "checkbox";
  every.setAttribute("aria-label", "Tick all on this page");
  head.replaceChildren(every);
  const texts = buttons.map((button) => button.textContent);
  const count = () => {
    const number = ticks.filter((tick) => tick.checked).length;
    every.checked = number === ticks.length;
    every.indeterminate = number > 0 && !every.checked;
    buttons.forEach((button, place) => {
      button.disabled = number === 0;
      button.textContent = number === 0 ? texts[place] : texts[place].replace(" …", ` ${number} …`);
    });
  };
  every.addEventListener("change", () => {
    for (const tick of ticks) tick.checked = every.checked;
    count();
  });
  form.addEventListener("change", count);
  window.addEventListener("pageshow", count);
  count();
}

for (const button of all("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
// A form that was sent is not sent twice by an impatient second click.
document.addEventListener("submit", (event) => {
  if (event.target.method === "post") setTimeout(() => all("button", event.target).forEach((one) => (one.disabled = true)));
});
window.addEventListener("pageshow", () => all("form[method=post] button").forEach((one) => (one.disabled = false)));
localTimes(document);
for (const holder of all("[data-live]")) liveList(holder);
for (const holder of all("[data-live-page]")) livePage(holder);
for (const form of all("form.filters")) localFilter(form);
for (const form of all("form[data-chosen]")) chosen(form);
