// A list beside the transcript. What has not changed stays the same element: what was unfolded or focused there stays so.

import { byId, make, say } from "./make.js";

export class List {
  /** In the element `id`; `element(item)` makes one, `name(item)` tells one from the others. */
  constructor(id, none, name, element) {
    this.id = id;
    this.none = none;
    this.name = name;
    this.element = element;
    this.shown = new Map();
  }

  /** Show these; `total` counts also those that are not among them. */
  show(items, total = items.length) {
    const before = this.shown;
    this.shown = new Map(items.map((item) => {
      const content = JSON.stringify(item);
      const known = before.get(this.name(item));
      return [this.name(item), known?.content === content ? known : { content, element: this.element(item) }];
    }));
    const wanted = [...this.shown.values()].map((one) => one.element);
    if (!wanted.length) wanted.push(make("li", { className: "none" }, this.none));
    if (total > items.length) wanted.push(make("li", { className: "none" }, `and ${total - items.length} more`));
    const place = byId(this.id);
    for (const old of [...place.children]) if (!wanted.includes(old)) old.remove();
    // Moved only where it has to be: what is moved loses the focus.
    wanted.forEach((element, index) => {
      if (place.children[index] !== element) place.insertBefore(element, place.children[index] ?? null);
    });
    say(byId(`${this.id}-count`), total ? String(total) : "");
  }
}
