// Who looks at this page: `/v1/me` comes in, that person goes out, or null for nobody who is signed in. Asked once a page.

export interface Me {
  tenant: string;
  scopes: string[];
  key_id: string | null; // null: on the service's own machine, where nobody needs a key.
  name: string;
}

let asked: Promise<Me | null> | null = null;

// Leads nobody to the sign-in: a page that can be read without a key is read without one.
export function me(): Promise<Me | null> {
  asked ??= fetch("/v1/me")
    .then((answer) => (answer.ok ? (answer.json() as Promise<Me>) : null))
    .catch(() => {
      asked = null; // A lost connection says nothing about the person.
      return null;
    });
  return asked;
}

// An admin may do all.
export const may = (person: Me | null, scope: string): boolean => person !== null && (person.scopes.includes(scope) || person.scopes.includes("admin"));
