// The shell of every page: who reads it comes in, the navigation shows what is theirs, and what spares their eyes is on.

import { startWelfare } from "../desk/welfare";
import { may, me } from "../me";

void startWelfare();
const person = await me();
for (const link of document.querySelectorAll<HTMLElement>("[data-needs]")) {
  link.hidden = !link.dataset.needs?.split(" ").some((scope) => may(person, scope));
}
