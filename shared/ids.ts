/** What stands before the uuid of an id on the wire. Audit entries alone have a bare uuid. */
export const ID_PREFIXES = ['acc', 'key', 'sub', 'evt', 'whk', 'wdl', 'cre'] as const;
export type IdPrefix = (typeof ID_PREFIXES)[number];

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Writes an id for the wire, such as `acc_01890a5d-ac96-774b-bcce-b302099a8057`. */
export function formatId<P extends IdPrefix>(prefix: P, uuid: string): `${P}_${string}` {
  return `${prefix}_${uuid}`;
}

/** Reads the uuid of an id with this prefix, in lower case, or null if the text is not such an id. */
export function parseId(prefix: IdPrefix, text: string): string | null {
  const start = `${prefix}_`;
  return text.startsWith(start) ? parseUuid(text.slice(start.length)) : null;
}

/** Reads a bare uuid, in lower case, or null if the text is none. */
export function parseUuid(text: string): string | null {
  const uuid = text.toLowerCase();
  return UUID.test(uuid) ? uuid : null;
}
