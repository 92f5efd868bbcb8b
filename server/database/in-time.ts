/**
 * What `work` comes to, or what `late` makes of it when that takes longer than `ms`; the work goes on unheard then. A
 * plain timer: to take back one that is a promise makes an error with a stack each time, for nobody.
 */
export async function inTime<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
  const { promise: tooLong, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    clearTimeout(timer);
  }
}
