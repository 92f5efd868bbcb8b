/**
 * For a property whose cases take time: from its first failure on it is tried on smaller cases for so long, and then
 * all pass, so that fast-check says what it has found, with its seed. Else it goes on until the test is timed out,
 * which says nothing of why.
 */
export function shrinkingFor<Drawn extends readonly unknown[]>(
  ms: number,
  property: (...drawn: Drawn) => Promise<void>,
): (...drawn: Drawn) => Promise<void> {
  let endsAtMs = Number.POSITIVE_INFINITY;
  return async (...drawn) => {
    if (performance.now() > endsAtMs) return;
    try {
      await property(...drawn);
    } catch (error) {
      endsAtMs = Math.min(endsAtMs, performance.now() + ms);
      throw error;
    }
  };
}
