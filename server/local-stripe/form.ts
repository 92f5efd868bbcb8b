import qs from 'qs';
import { invalidRequest } from './errors.ts';

/**
 * Decodes Stripe's bracket notation (`items[0][price]=price_1&expand[]=customer`) into nested values; every leaf
 * is a string. Throws Stripe's 400 for what no client writes: very deep nesting or thousands of parameters.
 */
export function decodeForm(text: string): Readonly<Record<string, unknown>> {
  try {
    return qs.parse(text, {
      depth: 12,
      strictDepth: true,
      parameterLimit: 5_000,
      arrayLimit: 1_000,
      throwOnLimitExceeded: true,
      // Metadata keys are the caller's own words, `toString` included; objects without a prototype can hold them.
      plainObjects: true,
    });
  } catch (error) {
    if (error instanceof RangeError) throw invalidRequest(`Invalid request: ${error.message}`);
    throw error;
  }
}
