// Addresses: a path comes in, the id of the analysis that it shows goes out. Links that are marked `data-route` change it without a new page.

const SHOWN = /^\/analyses\/([0-9a-f-]{36})$/;

export class Routes {
  #follow: (id: string | null) => void;

  constructor(follow: (id: string | null) => void) {
    this.#follow = follow;
    document.addEventListener("click", (event) => this.#clicked(event));
    window.addEventListener("popstate", () => this.route());
  }

  go(path: string): void {
    if (location.pathname !== path) history.pushState(null, "", path);
    this.route();
  }

  route(): void {
    this.#follow(location.pathname.match(SHOWN)?.[1] ?? null);
  }

  #clicked(event: MouseEvent): void {
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a[data-route]") : null;
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.go(link.pathname);
  }
}
