// Exchange the ticket of the link for a session. It is in the fragment: that is sent to no server and logged nowhere.

import { change, keep } from "./call.js";
import { byId, say } from "./make.js";

const ticket = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
try {
  const { key } = await change("enter", { ticket }, "");
  keep(key);
  location.replace("./");
} catch (refused) {
  say(byId("entering"), ticket ? `This link does not work: ${refused.message}.` : "This address lacks its ticket.");
  say(byId("hint"), `A link works once. On the host, run: hive-c0re open ${document.body.dataset.agent}`);
}
