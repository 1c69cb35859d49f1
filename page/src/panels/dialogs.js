/** Questions to the person: the token, a name to save under, a file to segment; and the help. */

import { element } from "../dom.js";

const WHO = "fullscale-who";

/** Show a form until it is sent or closed; gives what was entered, or null. */
function ask(title, fields, send, { note = "", required = false } = {}) {
  return new Promise((resolve) => {
    const form = element(
      "form",
      { method: "dialog" },
      note && element("p.note", {}, note),
      ...fields,
      element(
        "div.buttons",
        {},
        !required && element("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        element("button.primary", { type: "submit", value: "sent" }, send),
      ),
    );
    const dialog = element("dialog", { "aria-label": title }, element("h2", {}, title), form);
    if (required) dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "sent" ? new FormData(form) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function askToken(wasRefused) {
  const input = element("input", { type: "password", name: "token", required: true, autocomplete: "off", spellcheck: "false" });
  const note = "Who started the service has it. It is kept until this tab is closed.";
  const wrong = wasRefused && element("p.error", { role: "alert" }, "The service does not know this token.");
  const field = element("label", {}, "Token", input);
  const given = await ask("This service needs a token", wrong ? [wrong, field] : [field], "Open", { note, required: true });
  return given ? given.get("token").trim() : askToken(wasRefused);
}

/** Ask who saves a mask, and what there is to say of it. */
export async function askSave(caseName, seen) {
  const fields = [
    element("label", {}, "Your name", element("input", { type: "text", name: "who", required: true, maxLength: 100, value: localStorage.getItem(WHO) ?? "" })),
    element("label", {}, "A note, if there is something to say", element("textarea", { name: "note", rows: 2, maxLength: 1000 })),
    element("label.check", {}, element("input", { type: "checkbox", name: "final", checked: true }), "This case is finished: the mask is its truth"),
    element("label.check", { title: "Without this, models learn nothing from the slices that were not shown" }, element("input", { type: "checkbox", name: "every", checked: seen.all }), `Every slice was looked at (${seen.seen.size} of ${seen.count} were shown)`),
  ];
  const note = `The mask of ${caseName} is saved beside the data, as a new version. Neither the data nor an earlier mask is changed.`;
  const given = await ask("Save the mask", fields, "Save", { note });
  if (!given) return null;
  localStorage.setItem(WHO, given.get("who"));
  return { who: given.get("who"), note: given.get("note"), tag: given.get("final") ? "final" : "draft", everySlice: given.get("every") !== null };
}

/** Ask for a scan and a model that segments it. */
export async function askUpload(models) {
  const files = element("input", { type: "file", name: "scan", multiple: true, required: true });
  const fields = [
    element("label", {}, "Scan", files),
    element("label", {}, "Model", element("select", { name: "model" }, ...models.map(({ name }) => element("option", {}, name)))),
  ];
  const note = "A NIfTI, NRRD or MetaImage file, an image, or DICOM: its files, or a zip of them. The service removes it after a while.";
  return ask("Segment a file", fields, "Send", { note });
}

/** Ask whether to leave what is not saved. */
export async function askDiscard() {
  return (await ask("Give up what is not saved?", [], "Give up", { note: "What you drew on this case is not saved, and would be lost." })) !== null;
}

export function showHelp(shortcuts) {
  const rows = shortcuts.map(({ keys, about }) =>
    element("div", {}, element("dt", {}, ...keys.flatMap((key, k) => [k ? " " : "", element("kbd", {}, key)])), element("dd", {}, about)),
  );
  const close = () => dialog.close();
  const dialog = element(
    "dialog",
    { "aria-label": "Help", onclose: () => dialog.remove() },
    element("h2", {}, "Help"),
    element("p.note", {}, "The wheel goes through the slices under the pointer, with Ctrl it zooms. A click moves the crosshair; a drag with the right button changes the window, with Shift or two fingers it moves the picture, and in 3D it turns."),
    element("dl", {}, ...rows),
    element("p.note", {}, "Masks of a model can be wrong. They are no diagnosis. ", element("a", { href: "page/licences.txt" }, "Licences")),
    element("div.buttons", {}, element("button.primary", { onclick: close, autofocus: true }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
