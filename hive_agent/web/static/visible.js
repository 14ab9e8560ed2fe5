// Text of models, tools and strangers: shown as it is, and what would not be seen is made to be.
//
// Nothing here makes HTML. What a terminal or the bidirectional algorithm would act on becomes its escape (\x1b,
// \u202e), marked, so that it cannot be taken for text that says so.

const ACTED_ON = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
// Newline and tab are seen; emoji and several scripts are written with the joiners, which only join.
const HARMLESS = new Set(["\n", "\t", "\u200c", "\u200d"]);
const HIDDEN = /(?:(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}])+/gu;

function escaped(character) {
  const code = character.codePointAt(0);
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Append `text` to `parent` as text nodes, with marked escapes. */
export function show(parent, text) {
  const plain = String(text).replaceAll("\r\n", "\n");
  if (!ACTED_ON.test(plain)) {
    parent.append(plain);
    return parent;
  }
  let end = 0;
  for (const found of plain.matchAll(HIDDEN)) {
    const mark = document.createElement("span");
    mark.className = "control";
    mark.textContent = [...found[0]].map(escaped).join("");
    parent.append(plain.slice(end, found.index), mark);
    end = found.index + found[0].length;
  }
  parent.append(plain.slice(end));
  return parent;
}

/** The same as plain text, for attributes and one-line places. */
export function plain(text) {
  return String(text).replace(new RegExp(ACTED_ON, "gu"), (character) =>
    HARMLESS.has(character) ? character : escaped(character),
  );
}
