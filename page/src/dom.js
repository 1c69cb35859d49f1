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
    if (value === null || value === undefined) continue;
    if (key.startsWith("aria-")) made.setAttribute(key, String(value));
    else if (value === false) continue;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const ICONS = {
  eye: "M1.5 12S5 5 12 5s10.5 7 10.5 7-3.5 7-10.5 7S1.5 12 1.5 12Zm10.5 3.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4Z",
  hidden: "M3 3l18 18M10 5.2A10 10 0 0 1 12 5c7 0 10.5 7 10.5 7a18 18 0 0 1-3 3.9M6.5 6.6C3.2 8.7 1.5 12 1.5 12S5 19 12 19c2 0 3.7-.5 5.2-1.3",
  beside: "M3 5h8v14H3zM13 5h8v14h-8z",
};
const SVG = "http://www.w3.org/2000/svg";

/** Make a small picture, which says nothing by itself. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  picture.classList.add("icon");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
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
