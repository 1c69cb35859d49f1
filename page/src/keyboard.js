/** Keys, and what they do. */

const TYPED_IN = "input[type=search], input[type=text], input[type=password], input[type=number], textarea, select";

/**
 * Listen to keys, but where a person writes or answers a question.
 *
 * @param {{keys: string[], match: (event: KeyboardEvent) => boolean, act: () => void}[]} shortcuts
 */
export function listenToKeys(shortcuts) {
  window.addEventListener(
    "keydown",
    (event) => {
      if (document.querySelector("dialog[open]") || event.target.matches?.(TYPED_IN)) return;
      const found = shortcuts.find(({ match }) => match(event));
      if (!found) return;
      event.preventDefault();
      event.stopPropagation();
      found.act(event);
    },
    { capture: true },
  );
}

/** Match a key that is pressed alone. */
export function plain(...keys) {
  return (event) => !event.ctrlKey && !event.metaKey && !event.altKey && keys.includes(event.key);
}

/** Match a key that is pressed with Ctrl, or Cmd. */
export function withCtrl(key, shift = false) {
  return (event) => (event.ctrlKey || event.metaKey) && event.shiftKey === shift && event.key.toLowerCase() === key;
}
