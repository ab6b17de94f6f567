"use strict";
// Everything from the server goes in as text, never as markup; the page's policy allows nothing else.
(() => {
  const find = (id) => document.getElementById(id);
  const put = (id, text) => {
    const at = find(id);
    if (at && at.textContent !== String(text)) at.textContent = text;
  };
  const state = (id, good, text) => {
    const at = find(id);
    if (!at) return;
    put(id, text);
    at.className = good ? "ok" : "bad";
  };
  const fill = (id, rows) => {
    const body = find(id);
    if (!body) return;
    const made = rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((cell, at) => {
        const box = document.createElement(at ? "td" : "th");
        if (at) { if (typeof cell === "number") box.className = "n"; } else box.scope = "row";
        if (cell === true || cell === false) {
          box.className = cell ? "ok" : "bad";
          box.textContent = cell ? "yes" : "no";
        } else box.textContent = cell;
        row.append(box);
      });
      return row;
    });
    body.replaceChildren(...made);
  };
  let newest = Number(document.body.dataset.event) || 0;
  const tell = (events) => {
    const list = find("events");
    if (!list) return;
    for (const [number, ago, words] of events) {
      if (number <= newest) continue;
      newest = number;
      const item = document.createElement("li");
      item.className = "fresh";
      const time = document.createElement("time");
      time.textContent = ago;
      item.append(time, " ", words);
      list.prepend(item);
    }
    while (list.children.length > 30) list.lastChild.remove();
    const ages = new Map(events.map(([number, ago]) => [String(number), ago]));
    [...list.children].forEach((item, at) => {
      const age = ages.get(String(newest - at));
      if (age !== undefined) item.firstChild.textContent = age;
    });
  };
  const show = (now) => {
    state("ready", now.ready, now.ready_words);
    put("uptime", now.uptime);
    fill("parts", now.parts);
    fill("tor", now.tor);
    fill("peers", now.peers);
    put("total", now.total);
    fill("chain", now.chain);
    put("rate", now.rate_words);
    for (const name of ["seen", "sent"]) {
      const line = find("line-" + name);
      if (line) line.setAttribute("points", now.lines[name]);
    }
    if (find("said") && document.querySelectorAll("[data-own]").length !== now.own.length) {
      location.reload(); // an address with its QR code came or went: the server draws those
      return;
    }
    for (const [host, up] of now.own) {
      document.querySelectorAll("[data-own]").forEach((at) => {
        if (at.dataset.own === host) { at.textContent = up ? "reachable" : "not reachable yet"; at.className = up ? "ok" : "bad"; }
      });
    }
    tell(now.events);
  };
  const copy = async (button) => {
    const code = find(button.dataset.copy);
    let done = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      done = true;
    } catch (_) {
      const range = document.createRange();
      range.selectNodeContents(code);
      const chosen = getSelection();
      chosen.removeAllRanges();
      chosen.addRange(range);
    }
    put("said", done ? "copied" : "the address is selected: copy it with Ctrl-C");
  };
  document.querySelectorAll("button[data-copy]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  });
  if (document.body.dataset.live && "EventSource" in window) {
    const stream = new EventSource("/events");
    stream.onmessage = (message) => {
      show(JSON.parse(message.data));
      put("live", "live");
    };
    stream.onerror = () => put("live", "the connection is lost: what is shown is old");
  }
})();
