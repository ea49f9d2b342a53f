// The page of settings: which section is wanted stands in the page; who asks is found out, and the section is begun.

import { byId } from "../dom";
import { begin } from "../settings/access";
import { keys } from "../settings/keys";
import { service } from "../settings/service";
import { webhooks } from "../settings/webhooks";

const place = byId("section");
if (place.dataset.section === "keys") void begin(place, "admin", (me) => keys(place, me));
else if (place.dataset.section === "webhooks") void begin(place, "webhooks", () => webhooks(place));
else void begin(place, "admin", (me) => service(place, me));
