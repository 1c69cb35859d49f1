/** Numbers and times as people read them. */

export function millilitres(ml) {
  if (ml >= 100) return `${ml.toFixed(0)} ml`;
  return ml >= 1 ? `${ml.toFixed(1)} ml` : `${ml.toFixed(2)} ml`;
}

export function clock(iso) {
  const time = new Date(iso);
  const today = new Date().toDateString() === time.toDateString();
  const options = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(undefined, options).format(time);
}

export function score(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

/** A share with its sign, such as +3.4 %. */
export function percent(value) {
  if (value === null || value === undefined) return "–";
  return `${value > 0 ? "+" : ""}${value.toFixed(Math.abs(value) < 100 ? 1 : 0)} %`;
}
