/** Elements made of names, properties and children; text is always text, whatever it holds. */

/**
 * Make an element.
 *
 * @param {string} name such as `button` or `div.row`
 * @param {Object} properties attributes by name; functions called `on...` listen, `class` adds to the name's
 * @param {...(Node|string|null|undefined|false)} children
 */
export function element(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the document has no #${id}`);
  return found;
}

/** Show a line for a while, and to who cannot see it. */
export function tell(text, kind = "info") {
  const line = element("div.toast", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" }, text);
  line.append(element("button", { "aria-label": "Close", onclick: () => line.remove() }, "×"));
  byId("toasts").append(line);
  setTimeout(() => line.remove(), kind === "info" ? 6000 : 20000);
}
