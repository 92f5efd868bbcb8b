import { randomBytes } from 'node:crypto';

const RANDOM_BYTES = 10;

/**
 * A version 7 uuid: the millisecond first, so that rows created together lie together, and 74 random bits.
 * Ids of one millisecond have no order among themselves.
 */
export function uuidv7(now: Date, random: Uint8Array = randomBytes(RANDOM_BYTES)): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(now.getTime(), 0, 6);
  bytes.set(random.subarray(0, RANDOM_BYTES), 6);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
