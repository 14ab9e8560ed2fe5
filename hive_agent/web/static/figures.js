// Numbers and times, as people read them.

const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const count = (number) => short.format(number);

export function money(dollars) {
  if (dollars === null || dollars === undefined) return "–";
  return dollars !== 0 && dollars < 0.01 ? "< $0.01" : `$${dollars.toFixed(2)}`;
}

export function many(number, one, more = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : more}`;
}

/** A <time> for seconds since 1970 or an ISO date: the hour today, else with the day. */
export function when(moment) {
  const date = new Date(typeof moment === "number" ? moment * 1000 : moment);
  const element = document.createElement("time");
  if (Number.isNaN(date.getTime())) return element;
  element.dateTime = date.toISOString();
  element.title = date.toLocaleString();
  element.textContent = (date.toDateString() === new Date().toDateString() ? clock : day).format(date);
  return element;
}

/** How long it took. */
export function lasted(seconds, digits = 1) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(digits)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
