/** Of PostgreSQL's catalogue, the same in every version. */
const BYTEA_OID = 17;
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;

/**
 * A parameter of the type `bytea[]`, in the binary form that PostgreSQL itself sends arrays in. pg would write each
 * byte as two digits and read them as text: measured with groups of ten events of 4 kB, that took a quarter of the
 * database's processor time for their insert.
 */
export function byteaArray(values: readonly Uint8Array[]): Buffer {
  const bytes = values.reduce((sum, value) => sum + LENGTH_BYTES + value.length, HEADER_BYTES);
  const array = Buffer.allocUnsafe(bytes);
  // One dimension, no nulls, the type, how many there are, and that the first one is number 1.
  for (const [at, word] of [1, 0, BYTEA_OID, values.length, 1].entries()) array.writeInt32BE(word, at * 4);
  let at = HEADER_BYTES;
  for (const value of values) {
    array.writeInt32BE(value.length, at);
    array.set(value, at + LENGTH_BYTES);
    at += LENGTH_BYTES + value.length;
  }
  return array;
}
